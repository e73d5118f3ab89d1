"""The two towers of a dual encoder: texts with tuned rows in their slots, and images, as features of one space.

The frozen model's own layers run. Rows replace what the input embedding gives at the slots; deep rows replace, at the same positions, what
enters a later layer. In a causal tower all classes stand in one packed row: what precedes the first difference between them (the start
token and a shared context) is run once for all, there is no padding, and nothing behind the end token is ever computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maao.errors import ConfigError
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.text.loading import weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.modeling_outputs import ModelOutput

    from maao.problems.towers.image.preprocess import Preprocess

Deep = Mapping[int, Tensor]  # layer -> rows that replace what enters it at the slots: (num_rows, width), or (num_prompts, num_rows, width)

NO_ROWS: Deep = {}
T = TypeVar("T")
MOST_KEPT = 256 * 2**20  # bytes of features


class Kept:
    """Values by key, the oldest given up where they pass a size in bytes."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most, self._size = most, 0
        self._held: dict[Hashable, tuple[object, int]] = {}

    def get(self, key: Hashable, kind: type[T]) -> T | None:
        """Return what is kept under a key, which is of a kind; None: nothing is."""
        found, _ = self._held.get(key, (None, 0))
        return found if isinstance(found, kind) else None

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Keep a value of so many bytes; one that is larger than all there is room for is not kept."""
        if size > self._most or key in self._held:
            return
        self._held[key] = value, size
        self._size += size
        while self._size > self._most:
            self._size -= self._held.pop(next(iter(self._held)))[1]


class TextTower:
    """A text tower that reads whole rows, padded to the longest (or to `padded_to`, where it must be).

    Args:
        model: the frozen model.
        tokenizer: its fast tokenizer.
        finish: the projected features ``(num_texts, embed_dim)`` of ``(model's output, mask)``.
        most: tokens that it reads.
        padded_to: the length that every text is padded to, where the model was trained so (SigLIP); None: the longest.
        with_mask: tell the model which tokens are padding.
        embedding: its input embedding, where `get_input_embeddings` does not give it.
        pad_id: what stands behind a text's end; by default the tokenizer's.
        with_states: `finish` reads the states of all layers (``hidden_states``).
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        finish: Callable[[ModelOutput, Tensor], Tensor],
        *,
        most: int,
        padded_to: int | None = None,
        with_mask: bool = True,
        embedding: nn.Module | None = None,
        pad_id: int | None = None,
        with_states: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.most = model, tokenizer, most
        self._pad_id = tokenizer.pad_token_id or 0 if pad_id is None else pad_id
        self._finish, self._padded_to, self._with_mask = finish, padded_to, with_mask
        self._asked = {"output_hidden_states": True} if with_states else {}
        self.embedding = embedding if embedding is not None else model.get_input_embeddings()  # type: ignore[operator]
        self.layers = layers_of(model)
        self.by_length = False  # texts of unequal length run apart: padding would change what the model makes of them

    @property
    def width(self) -> int:
        return int(self.embedding.weight.shape[1])  # type: ignore[index]

    @property
    def table(self) -> Tensor:
        """``(vocab_size, width)``, what the input embedding gives for each id (some models scale their rows)."""
        if type(self.embedding) is nn.Embedding:
            return self.embedding.weight.detach()
        with torch.no_grad():
            every = torch.arange(len(self.embedding.weight), device=self.device)  # type: ignore[arg-type]
            return torch.cat([self.embedding(chunk) for chunk in every.split(8192)])

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device  # type: ignore[return-value]

    def features(self, prompts: Sequence[Prompt], rows: Tensor | None = None, deep: Deep = NO_ROWS, *, part_tokens: int = 0) -> Tensor:
        """Return the normalised features ``(len(prompts), embed_dim)`` of prompts.

        Args:
            rows: what stands in the slots, ``(num_slots, width)`` for all prompts or ``(len(prompts), num_slots, width)``.
            deep: rows that replace what enters a layer at the slots.
            part_tokens: the most tokens whose activations are kept for a gradient: beyond it, prompts run in parts and each part is run
                again for its gradient; a single prompt is never cut. 0: no limit.
        """
        shared = all(value.dim() == 2 for value in (rows, *deep.values()) if value is not None)
        tokens = self.num_tokens(prompts, shared=shared)
        if not part_tokens or tokens <= part_tokens or len(prompts) == 1 or not torch.is_grad_enabled():
            return self._normalised(prompts, rows, deep)
        usual = max(1, len(prompts) * part_tokens // tokens)
        parts, begin = [], 0
        while begin < len(prompts):
            size = usual
            while size > 1 and self.num_tokens(prompts[begin : begin + size], shared=shared) > part_tokens:
                size -= 1  # longer ones than the rest
            which = slice(begin, begin + size)
            own = rows[which] if rows is not None and rows.dim() == 3 else rows
            below = {layer: value[which] if value.dim() == 3 else value for layer, value in deep.items()}
            parts.append(checkpoint(self._normalised, prompts[which], own, below, use_reentrant=False))
            begin += size
        return torch.cat(parts)

    def num_tokens(self, prompts: Sequence[Prompt], *, shared: bool = True) -> int:
        """Return how many tokens, padding included, one pass over prompts runs."""
        if self.by_length:
            return sum(len(prompt.ids) for prompt in prompts)
        return len(prompts) * (self._padded_to or max(len(prompt.ids) for prompt in prompts))

    def _normalised(self, prompts: Sequence[Prompt], rows: Tensor | None, deep: Deep) -> Tensor:
        if not self.by_length:
            return unit(self._encode(prompts, rows, deep))
        groups = [[i for i, p in enumerate(prompts) if len(p.ids) == length] for length in sorted({len(p.ids) for p in prompts})]
        found = [
            self._encode([prompts[i] for i in own], None if rows is None else _of(rows, own), {n: _of(v, own) for n, v in deep.items()})
            for own in groups
        ]
        order = torch.tensor([i for own in groups for i in own], device=found[0].device)
        return unit(torch.cat(found)[order.argsort()])

    def _encode(self, prompts: Sequence[Prompt], rows: Tensor | None, deep: Deep) -> Tensor:
        device = self.device
        length = self._padded_to or max(len(prompt.ids) for prompt in prompts)
        pad = self._pad_id
        ids = torch.tensor([[*prompt.ids, *[pad] * (length - len(prompt.ids))] for prompt in prompts], device=device)
        mask = torch.tensor([[1] * len(p.ids) + [0] * (length - len(p.ids)) for p in prompts], device=device)
        where = torch.tensor([prompt.slots for prompt in prompts], dtype=torch.long, device=device)
        numbers = torch.arange(len(prompts), device=device)[:, None]
        with ExitStack() as hooks:
            if rows is not None:
                hooks.enter_context(output_changed(self.embedding, lambda held: _put(held, numbers, where, rows)))
            for layer, value in deep.items():
                hooks.enter_context(input_changed(self.layers[layer], _putter(numbers, where, value)))
            masked = {"attention_mask": mask} if self._with_mask else {}
            output = self.model(input_ids=ids, **masked, **self._asked)
        return self._finish(output, mask)


class CausalTextTower(TextTower):
    """CLIP's text tower: causal and read at its end token, so that prompts can be packed and nothing stands behind their ends.

    Args:
        text: transformers' `CLIPTextModel`.
        projection: onto the common space; None: there is none.
    """

    def __init__(
        self, text: nn.Module, projection: nn.Module | None, tokenizer: PreTrainedTokenizerBase, *, most: int, pack_tokens: int = 1024
    ) -> None:
        super().__init__(text, tokenizer, lambda output, mask: output, most=most)
        self._text: Any = getattr(text, "text_model", text)
        self._projection = projection
        self._pack_tokens = pack_tokens

    def num_tokens(self, prompts: Sequence[Prompt], *, shared: bool = True) -> int:
        opening = common_opening(prompts, with_slots=shared)
        packs = self._packs(prompts, opening)
        return sum(len(prompt.ids) - opening for prompt in prompts) + len(packs) * opening

    def _encode(self, prompts: Sequence[Prompt], rows: Tensor | None, deep: Deep) -> Tensor:
        every = [value for value in (rows, *deep.values()) if value is not None]
        opening = common_opening(prompts, with_slots=all(value.dim() == 2 for value in every))
        found = []
        for pack in self._packs(prompts, opening):
            part = [prompts[i] for i in pack]
            own = None if rows is None else _of(rows, pack)
            found.append(self._packed(part, opening, own, {layer: _of(value, pack) for layer, value in deep.items()}))
        return torch.cat(found) if len(found) > 1 else found[0]

    def _packs(self, prompts: Sequence[Prompt], opening: int) -> list[list[int]]:
        """Return the numbers of prompts that share a packed row: attention costs the square of a row's length."""
        packs: list[list[int]] = [[]]
        filled = opening
        for i, prompt in enumerate(prompts):
            own = len(prompt.ids) - opening
            if packs[-1] and filled + own > self._pack_tokens:
                packs.append([])
                filled = opening
            packs[-1].append(i)
            filled += own
        return packs

    def _packed(self, prompts: Sequence[Prompt], opening: int, rows: Tensor | None, deep: Deep) -> Tensor:
        device, embeddings = self.device, self._text.embeddings
        layout = Layout.of(prompts, opening)
        hidden = embeddings.token_embedding(torch.tensor([layout.ids], device=device))
        if rows is not None:
            hidden = layout.put(hidden, rows)
        hidden = hidden + embeddings.position_embedding(torch.tensor([layout.positions], device=device))
        mask = torch.zeros(hidden.shape[1], hidden.shape[1], dtype=hidden.dtype, device=device)
        mask = mask.masked_fill(~layout.may_read.to(device), torch.finfo(hidden.dtype).min)
        with ExitStack() as hooks:
            for layer, value in deep.items():
                hooks.enter_context(input_changed(self.layers[layer], _layout_putter(layout, value)))
            output = self._text.encoder(inputs_embeds=hidden, attention_mask=mask[None, None])
        last = output.last_hidden_state[0, torch.tensor(layout.ends, device=device)]
        pooled = self._text.final_layer_norm(last)  # only where it is read
        return pooled if self._projection is None else self._projection(pooled)


@dataclass(frozen=True)
class Layout:
    """Prompts in one row: what opens all of them once, then the rest of each. A token reads the opening and its own prompt up to itself."""

    ids: list[int]
    positions: list[int]
    ends: list[int]  # where each prompt's last token stands
    may_read: Tensor  # (tokens, tokens) booleans
    where: list[int]  # slots in the row
    owner: list[int]  # which prompt each of them belongs to (the first, for shared ones)
    number: list[int]  # which slot of the prompt it is

    @classmethod
    def of(cls, prompts: Sequence[Prompt], opening: int) -> Layout:
        ids = list(prompts[0].ids[:opening])
        positions, owners, ends = list(range(opening)), [-1] * opening, []
        where = [slot for slot in prompts[0].slots if slot < opening]
        owner, number = [0] * len(where), list(range(len(where)))
        for i, prompt in enumerate(prompts):
            shift = len(ids) - opening
            later = [(n, slot) for n, slot in enumerate(prompt.slots) if slot >= opening]
            where += [slot + shift for _, slot in later]
            owner += [i] * len(later)
            number += [n for n, _ in later]
            ids += prompt.ids[opening:]
            positions += range(opening, len(prompt.ids))
            owners += [i] * (len(prompt.ids) - opening)
            ends.append(len(ids) - 1)
        own, at = torch.tensor(owners), torch.tensor(positions)
        may_read = ((own[None] == -1) | (own[None] == own[:, None])) & (at[None] <= at[:, None])
        return cls(ids, positions, ends, may_read, where, owner, number)

    def put(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return ``(1, tokens, width)`` with rows in the slots."""
        chosen = rows[self.number] if rows.dim() == 2 else rows[self.owner, self.number]
        where = torch.tensor(self.where, device=hidden.device)
        return hidden.index_copy(1, where, chosen[None].to(hidden))


class ImageTower:
    """An image tower, with room for prompts behind the tokens of an image.

    Args:
        model: the frozen model; called with ``pixel_values``.
        finish: the projected features ``(num_images, embed_dim)`` of its output.
        embeddings: the module whose output are an image's tokens ``(num_images, num_tokens, width)``, where the model has such.
    """

    def __init__(
        self, model: nn.Module, finish: Callable[[ModelOutput], Tensor], *, embeddings: nn.Module | None, num_tokens: int, width: int
    ) -> None:
        self.model, self._finish, self._embeddings = model, finish, embeddings
        self.num_tokens, self.width = num_tokens, width  # tokens of one image
        self.layers = layers_of(model) if embeddings is not None else nn.ModuleList()

    def features(self, pixels: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        """Return the normalised features ``(num_images, embed_dim)`` of ``(num_images, 3, height, width)`` pixels.

        Args:
            prompts: ``(num_rows, width)`` for each layer from the first on: they follow an image's tokens, and replace those of the layer
                before. The model reads them, and its features are taken where they always are.
        """
        if prompts and self._embeddings is None:
            raise ConfigError("This image tower has no tokens that prompts could stand among: choose a method that leaves it as it is.")
        with ExitStack() as hooks:
            if prompts:
                embeddings = self._embeddings
                assert embeddings is not None
                hooks.enter_context(output_changed(embeddings, lambda held: torch.cat([held, _spread(prompts[0], held)], 1)))
                for layer, rows in zip(self.layers[1:], prompts[1:], strict=False):
                    hooks.enter_context(input_changed(layer, _tail_putter(rows)))
            return unit(self._finish(self.model(pixel_values=pixels)))


class InputTower(Protocol):
    """What reads the inputs that are classified: an image tower, or a text tower where inputs are texts."""

    layers: nn.ModuleList

    @property
    def model(self) -> nn.Module:
        """The module that runs."""
        ...

    @property
    def width(self) -> int:
        """Width of the tokens that prompts may stand among; 0: there is no room for any."""
        ...

    def features(self, inputs: Any, prompts: Sequence[Tensor] = ()) -> Tensor:
        """Return the normalised features ``(num_inputs, embed_dim)``, with prompts of the first layers among an input's tokens."""
        ...


@dataclass(frozen=True)
class DualEncoder:
    """A frozen pair of towers. Class scores are ``scale`` times the cosine between an input and the texts of the classes.

    `input` reads what is classified, pictures by `pixels` (what an image becomes; None: inputs are texts). With `trains_scale` no scale was
    learned with the towers: `scale` is where that of a prompt's training begins. `kept` holds what the towers made of texts that are asked
    for again: by later runs of this process, or by folds of the same examples. `own_dim` is the width of the encoders' own vectors, where
    hidden layers stand behind them; None: all of `embed_dim`.
    """

    name: str
    text: TextTower
    input: InputTower
    scale: float
    embed_dim: int
    pixels: Preprocess | None
    modules: nn.Module
    revision: str | None = None
    trains_scale: bool = False
    notes: tuple[str, ...] = ()
    own_dim: int | None = None
    kept: Kept = field(default_factory=Kept, compare=False, repr=False)
    kind: ClassVar[str] = "matcher"

    @cached_property
    def digest(self) -> str:
        """A hash of all weights, which never change: read once."""
        return weights_digest(self.modules)

    @cached_property
    def device(self) -> torch.device:
        """Where the towers are, and stay."""
        return next(self.modules.parameters()).device

    def own(self, features: Tensor) -> Tensor:
        """Return the normalised vectors of the encoders themselves ``(batch, own_dim)``, without hidden layers beside them."""
        return features if self.own_dim in (None, self.embed_dim) else unit(features[..., : self.own_dim])

    def logits(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return ``(num_images, num_classes)`` scores of normalised features."""
        return self.scale * images @ classes.T


# -- what is put into a running model


@contextmanager
def output_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a module's output be changed while this lasts."""
    handle = module.register_forward_hook(lambda module, given, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def input_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let the hidden states that enter a layer be changed while this lasts."""

    def hook(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        if given:
            return (change(given[0]), *given[1:]), named
        return given, {**named, "hidden_states": change(named["hidden_states"])}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def unit(features: Tensor) -> Tensor:
    """Return features of length one, in single precision at least."""
    held = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
    return held / held.norm(dim=-1, keepdim=True)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the layers of a transformer: its longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len) if lists else nn.ModuleList()


def common_opening(prompts: Sequence[Prompt], *, with_slots: bool) -> int:
    """Return how many tokens all prompts begin with alike; slots hold the same rows for all of them if `with_slots`.

    At least the end of each prompt stays its own.
    """
    first = prompts[0]
    most = min(len(prompt.ids) for prompt in prompts) - 1
    for at in range(most):
        slot = at in first.slots
        alike = all((at in p.slots) == slot and (slot or p.ids[at] == first.ids[at]) for p in prompts)
        if not alike or (slot and not with_slots):
            return at
    return most


def _of(rows: Tensor, which: Sequence[int]) -> Tensor:
    return rows if rows.dim() == 2 else rows[list(which)]


def _put(held: Tensor, numbers: Tensor, where: Tensor, rows: Tensor) -> Tensor:
    changed = held.clone()
    changed[numbers, where] = rows.to(held)
    return changed


def _putter(numbers: Tensor, where: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda held: _put(held, numbers, where[:, : rows.shape[-2]], rows)


def _layout_putter(layout: Layout, rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda held: layout.put(held, rows)


def _spread(rows: Tensor, held: Tensor) -> Tensor:
    return rows.to(held).expand(len(held), *rows.shape)


def _tail_putter(rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda held: torch.cat([held[:, : -len(rows)], _spread(rows, held)], 1)
