"""A language model in this process, through `transformers`.

Model and tokenizer are given as objects, so that the mentor can share its weights with the model that is tuned. For that reason nothing
here changes the model: not its mode, not its configuration, not the random state of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING

from maao.core.pieces import adds_space, continued
from maao.errors import ChatError, ConfigError, ModelError
from maao.llm.chat import Reply, Request, Usage, sampling_seed
from maao.llm.in_time import out_of_time
from maao.llm.price import FREE
from maao.llm.provider import ChatOptions, Here

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import BatchEncoding, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

CONTEXT_TOKENS = 4  # prompt tokens that are decoded together with the reply, so that its first space is kept


class LocalModel:
    """A causal language model with its tokenizer.

    Sampling is a function of the request: its seed and sample number fix the reply (without a seed, the whole request does). A
    temperature of 0 takes the likeliest token each time. Only the request says how to sample; the model's own generation settings
    give nothing but the ids that end a text.
    """

    is_remote = False
    price = FREE

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        if model.training:
            raise ModelError(f"Model {name!r} is in training mode, where dropout would change its replies: call model.eval() first.")
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self._left: Callable[[], float] | None = None

    def ending(self, left: Callable[[], float]) -> LocalModel:
        """Return this model, whose calls end at the next token where there are no seconds left."""
        model = copy(self)
        model._left = left
        return model

    @property
    def context(self) -> int | None:
        """The most tokens that prompt and reply may have together, where the model says it."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(limit) if limit else None

    def complete(self, request: Request) -> Reply:
        import torch

        prompt = self._encode(request)  # (1, num_tokens)
        self._check_length(prompt.shape[-1], request.max_tokens)
        ends = self._end_ids()
        text_so_far = _decoder(self.tokenizer, prompt[0].tolist())
        try:
            ids = self._generate(prompt, request, ends, text_so_far)
        except torch.OutOfMemoryError:
            ids = None
        if ids is None:
            raise ChatError(f"Not enough memory for a reply of {self.name!r} to {prompt.shape[-1]} tokens: shorten the instruction.")
        text = text_so_far(ids)
        cut = _first_stop(text, request.stop)
        ended = cut is not None or (bool(ids) and ids[-1] in ends)
        return Reply(
            text=text[:cut],
            usage=Usage(input_tokens=prompt.shape[-1], output_tokens=len(ids)),
            model=self.name,
            finish_reason="stop" if ended else "length",
        )

    def close(self) -> None:
        """The weights are the process's: they stay."""

    def _encode(self, request: Request) -> Tensor:
        if request.style == "completion":
            encoded: BatchEncoding = self.tokenizer(request.text, return_tensors="pt", verbose=False)
        else:
            encoded = self._encode_chat(request)
        ids: Tensor = encoded["input_ids"]
        if ids.shape[-1] == 0:
            raise ChatError(f"The prompt for {self.name!r} holds no token.")
        return ids

    def _encode_chat(self, request: Request) -> BatchEncoding:
        if not self.tokenizer.chat_template:
            raise ChatError(
                f"The tokenizer of {self.name!r} has no chat template, so it cannot hold a conversation. "
                "Choose a model that was tuned to follow instructions, or a mentor that asks in completion style (mentor.style)."
            )
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        try:
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt", tokenizer_kwargs={"verbose": False}
            )
        except Exception as error:  # a program of the model's author: some refuse a system turn, or two turns of one role
            reason = str(error) or type(error).__name__
        raise ChatError(f"The chat template of {self.name!r} refuses these messages: {reason}")

    def _check_length(self, prompt_tokens: int, max_tokens: int) -> None:
        if self.context is not None and prompt_tokens + max_tokens > self.context:
            raise ChatError(
                f"The prompt has {prompt_tokens} tokens and the reply may have {max_tokens}: together more than the {self.context} that "
                f"{self.name!r} can read. Show fewer observations in the instruction, or lower the token limit of the reply."
            )

    def _end_ids(self) -> list[int]:
        ids: list[int] = []
        for found in (self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id):
            ids += found if isinstance(found, list) else [found] if found is not None else []
        return list(dict.fromkeys(ids))

    def _generate(self, prompt: Tensor, request: Request, ends: list[int], text_so_far: Callable[[Sequence[int]], str]) -> list[int]:
        import torch
        from transformers import StoppingCriteriaList

        criteria = StoppingCriteriaList()
        if request.stop:
            criteria.append(_stop_at(_has_stop(prompt.shape[-1], lambda ids: _first_stop(text_so_far(ids), request.stop) is not None)))
        cut = False

        def is_up(_: Tensor) -> bool:
            nonlocal cut
            cut = self._left is not None and self._left() <= 0
            return cut

        if self._left is not None:
            criteria.append(_stop_at(is_up))
        prompt = prompt.to(self.model.device)
        config = self._settings(request.temperature, request.top_p, request.max_tokens, ends)
        with _forked_random(self.model.device, _seed(request)), torch.no_grad():
            output = self.model.generate(
                inputs=prompt, attention_mask=torch.ones_like(prompt), generation_config=config, stopping_criteria=criteria
            )
        if cut:
            raise out_of_time()
        new: list[int] = output[0, prompt.shape[-1] :].tolist()
        return new

    def _settings(self, temperature: float, top_p: float, max_tokens: int, ends: list[int]) -> GenerationConfig:
        from transformers import GenerationConfig

        sampling: dict[str, object] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        return GenerationConfig(
            **_NEUTRAL | sampling,
            max_new_tokens=max_tokens,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,  # one text at a time: nothing is padded
            bos_token_id=self.tokenizer.bos_token_id,
        )

    def proceed(
        self, vectors: Tensor, before: str, after: str, *, seed: int, temperature: float, top_p: float, max_tokens: int
    ) -> tuple[str, int, int]:
        """Return how a text goes on in which vectors ``(count, embed_dim)`` stand, and the tokens read and written."""
        import torch

        embed = self.model.get_input_embeddings()
        device = self.model.device
        ids = [torch.tensor([part]) for part in (self.tokenizer(before, verbose=False)["input_ids"], self._behind(after))]
        config = self._settings(temperature, top_p, max_tokens, self._end_ids())
        with _forked_random(device, seed), torch.no_grad():
            first, last = (embed(part.to(device)) for part in ids)
            embeddings = torch.cat([first, vectors.to(first)[None], last], dim=1)
            mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=device)
            new = self.model.generate(inputs_embeds=embeddings, attention_mask=mask, generation_config=config)[0].tolist()
        return _decoder(self.tokenizer, ids[1][0].tolist())(new), embeddings.shape[1], len(new)

    def _behind(self, text: str) -> list[int]:
        """Return the ids of a text that goes on behind another one."""

        def ids(text: str) -> list[int]:
            found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            return found

        return continued(ids, text) if adds_space(ids) else ids(text)


class LocalOptions(ChatOptions):
    """Settings of `LocalModel`; by default it is the tuned model itself."""

    def model_name(self, tuned: str) -> str:
        return self.name or tuned

    def where(self, name: str) -> str:
        return f"the language model {name}, in this process"

    def build(self, here: Here) -> LocalModel:
        name = self.model_name(here.tuned)
        loaded = here.load(name)  # the tuned model's own weights, where they are the same
        if loaded.kind != "decoder":
            raise ConfigError(f"{name} is an encoder and cannot write. Name a causal language model in mentor.chat.name.")
        return LocalModel(loaded.model, loaded.tokenizer, name)


# Spelt out, because what a generation config leaves open is filled from the model's own.
_NEUTRAL: dict[str, object] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,  # transformers' way to say "not set" where nothing is sampled
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "use_cache": True,
    "return_dict_in_generate": False,
}


def _seed(request: Request) -> int:
    seed = sampling_seed(request)
    return int(request.key[-8:], 16) >> 1 if seed is None else seed


@contextmanager
def _forked_random(device: torch.device, seed: int) -> Iterator[None]:
    """Let torch draw from `seed` on a device, and leave its random state as it was."""
    import torch

    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed accelerators too, which are not forked here
            yield
    else:
        count = torch.cuda.device_count() if device.type == "cuda" else 1
        with torch.random.fork_rng(devices=range(count), device_type=device.type):
            torch.manual_seed(seed)
            yield


def _decoder(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> Callable[[Sequence[int]], str]:
    """Return the function from the ids that follow `prompt` to their text, its leading space kept.

    Many tokenizers drop the space before the first word they decode; decoded after the prompt's last tokens, it stays.
    """

    def decode(ids: Sequence[int]) -> str:
        text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    tail = list(prompt[-CONTEXT_TOKENS:])
    before = decode(tail)

    def text_after_prompt(ids: Sequence[int]) -> str:
        both = decode([*tail, *ids])
        # A character whose bytes lie on both sides of the border shows differently: then the ids speak for themselves.
        return both[len(before) :] if both.startswith(before) else decode(ids)

    return text_after_prompt


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop string begins, or None.

    Example:
        >>> _first_stop("one, two\\n", ["\\n", ","])
        3
    """
    return min((text.find(stop) for stop in stops if stop and stop in text), default=None)


def _has_stop(prompt: int, is_over: Callable[[list[int]], bool]) -> Callable[[Tensor], bool]:
    """Return what asks `is_over` of the ids behind a prompt of so many.

    Each id is read once, as it comes: a read waits for the device. Rarer reads would write more tokens than are wanted, which takes longer.
    """
    so_far: list[int] = []

    def has_stop(ids: Tensor) -> bool:
        so_far.extend(ids[0, prompt + len(so_far) :].tolist())
        return is_over(so_far)

    return has_stop


def _stop_at(is_over: Callable[[Tensor], bool]) -> StoppingCriteria:
    """Return what ends a text where `is_over` says so of all ids so far, those of the prompt too: a tensor on the model's device."""
    import torch
    from transformers import StoppingCriteria

    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
            return torch.full((input_ids.shape[0],), is_over(input_ids), device=input_ids.device, dtype=torch.bool)

    return Stop()
