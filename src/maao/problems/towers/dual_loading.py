"""Load a frozen dual encoder: CLIP and SigLIP of transformers, pairs of any text encoder with any image model, and open_clip.

A pair is a folder with ``dual_encoder.json`` (which models, how each is pooled, the scale, the image transform), the image model's
``config.json``, and one ``model.safetensors`` with its weights under ``vision.`` and the projections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maao.errors import ModelError
from maao.problems.towers.dual import CausalTextTower, DualEncoder, ImageTower, TextTower, unit
from maao.problems.towers.dual_names import KINDS, OPEN_CLIP, PACKAGED, PAIR
from maao.problems.towers.image.preprocess import RESAMPLING, Preprocess
from maao.problems.towers.pooling import POOLINGS, Pooling, pooled
from maao.problems.towers.text.loading import check_inside, code_refused, load_frozen, loading_options, locate, quiet
from maao.problems.towers.tried import reads_alike
from maao.progress import job
from maao.store.files import read_object

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_outputs import ModelOutput

IMAGE_POOLINGS = ("mean", "first", "last", "pooler")


@job("loading the model")
def load_dual_encoder(
    name: str, *, device: str = "cpu", dtype: str = "float32", revision: str | None = None, trust_remote_code: bool = False
) -> DualEncoder:
    """Load a frozen dual encoder.

    Args:
        name: a hub name or folder of a CLIP, SigLIP or ``vision-text-dual-encoder`` model; a folder with ``dual_encoder.json``;
            "packaged:emoji-vit"; or "open_clip:ARCHITECTURE/PRETRAINED" (a tag of open_clip, or a checkpoint's path).
        dtype: precision of the frozen weights; params stay in fp32.
        trust_remote_code: as for `load_frozen`.

    Raises:
        ModelError: nothing of that name, weights that are missing, or a kind of model that cannot be used.
    """
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"Unknown precision '{dtype}': use float32, bfloat16 or float16.")
    if name.startswith(OPEN_CLIP):
        encoder = _open_clip(name)
    else:
        folder = _folder(name)
        encoder = (
            _pair(folder, name)
            if folder is not None and (folder / PAIR).is_file()
            else _transformers(name, revision, trusted=trust_remote_code)
        )
    encoder.modules.requires_grad_(False)
    encoder.modules.eval()
    try:
        encoder.modules.to(device=device, dtype=getattr(torch, dtype))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Cannot move {name} to device '{device}': {error}. Use 'cpu', or 'cuda' where a GPU is at hand.") from error
    return encoder


def _folder(name: str) -> Path | None:
    if name.startswith("packaged:"):
        if name not in PACKAGED:
            raise ModelError(f"Unknown packaged dual encoder '{name}'. Known: {', '.join(PACKAGED)}.")
        return Path(__file__).parents[2] / "testbeds" / PACKAGED[name]
    path = Path(name).expanduser()
    return path if path.is_dir() else None


# -- CLIP, SigLIP and pairs of transformers


def _transformers(name: str, revision: str | None, *, trusted: bool) -> DualEncoder:
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    place, options = locate(name), loading_options(name, revision, trust_remote_code=trusted)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(place, **options)
            model, told = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        told = code_refused(name, error) or f"Cannot load the dual encoder '{name}': {' '.join(str(error).split())[:300]}"
        raise ModelError(told) from error
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise ModelError(f"The checkpoint of {name} lacks {len(missing)} weights, {missing[0]} for one: it would run on random numbers.")
    return from_transformers(model, tokenizer, name, pixels=_transform(place, config, revision), revision=revision)


def from_transformers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, *, pixels: Preprocess | None = None, revision: str | None = None
) -> DualEncoder:
    """Return the towers of a transformers model that is at hand: a `CLIPModel`, `SiglipModel` or `VisionTextDualEncoderModel`."""
    kind = model.config.model_type
    if kind not in KINDS:
        raise ModelError(
            f"{name} is of type '{kind}'. Dual encoders that can be used: {', '.join(KINDS)}, a folder with {PAIR}, and "
            f"{OPEN_CLIP}ARCHITECTURE/PRETRAINED."
        )
    model.requires_grad_(False)
    model.eval()
    vision = model.vision_model
    size = int(getattr(model.config.vision_config, "image_size", 224))
    pixels = pixels or (Preprocess.squashed(size) if kind == "siglip" else Preprocess.square(size))
    if kind == "clip":
        most = model.config.text_config.max_position_embeddings
        text: TextTower = CausalTextTower(model.text_model, model.text_projection, tokenizer, most=most)
        finish: Callable[[ModelOutput], Tensor] = lambda output: model.visual_projection(output.pooler_output)  # noqa: E731
        dim = model.config.projection_dim
    elif kind == "siglip":
        most = model.config.text_config.max_position_embeddings
        text = TextTower(model.text_model, tokenizer, lambda output, mask: output.pooler_output, most=most, padded_to=most, with_mask=False)
        finish = lambda output: output.pooler_output  # noqa: E731
        dim = int(model.text_model.head.weight.shape[0])
    else:
        most = _most(model.text_model.config, tokenizer)
        text = TextTower(model.text_model, tokenizer, lambda output, mask: model.text_projection(output.pooler_output), most=most)
        finish = lambda output: model.visual_projection(output.pooler_output)  # noqa: E731
        dim = model.config.projection_dim
    scale = math.exp(float(model.logit_scale.detach()))
    image = image_tower(vision, finish, pixels, name)
    reads_alike(text, name, own=lambda words: _own_features(model, tokenizer, words, most, whole=kind == "siglip"))
    return DualEncoder(name, text, image, scale, dim, pixels, model, revision)


def _own_features(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, most: int, *, whole: bool) -> Tensor:
    """Return the features of one text as the model's own method gives them, padded as its processor pads; `whole`: to the full length."""
    inputs = tokenizer([text], return_tensors="pt", truncation=True, max_length=most, padding="max_length" if whole else False)
    read = ("input_ids",) if whole else ("input_ids", "attention_mask")
    given = {key: inputs[key] for key in read if key in inputs}
    found = model.get_text_features(**given)
    return unit(found if isinstance(found, Tensor) else found.pooler_output)


def _transform(place: str, config: PretrainedConfig, revision: str | None) -> Preprocess:
    size = int(getattr(getattr(config, "vision_config", None), "image_size", 224))
    default = Preprocess.squashed(size) if config.model_type == "siglip" else Preprocess.square(size)
    if Path(place).is_dir():
        return Preprocess.from_folder(Path(place), default)
    from transformers.utils import cached_file

    names = ("processor_config.json", "preprocessor_config.json")
    found = [cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False) for name in names]
    folder = next((Path(file).parent for file in found if file is not None), None)
    return default if folder is None else Preprocess.from_folder(folder, default)


def _most(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    padded = getattr(config, "pad_token_id", None) if config.model_type in ("roberta", "xlm-roberta", "camembert") else None
    return int(positions) - (padded + 1 if padded is not None else 0)  # these count positions from behind their padding


def image_tower(model: nn.Module, finish: Callable[[ModelOutput], Tensor], pixels: Preprocess, name: str) -> ImageTower:
    """Return the tower of an image model; whether it works on tokens is seen by running it once on an empty image.

    Raises:
        ModelError: it does not read pictures of the size that `pixels` makes.
    """
    embeddings = getattr(model, "embeddings", None)
    seen: list[Tensor] = []
    handle = None if embeddings is None else embeddings.register_forward_hook(lambda module, given, output: seen.append(output))
    weight = next(model.parameters())
    try:
        with torch.no_grad():
            finish(model(pixel_values=torch.zeros(1, 3, pixels.height, pixels.width, dtype=weight.dtype, device=weight.device)))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{name}: its image tower cannot read pictures of {pixels.height} x {pixels.width} pixels, which its transform makes: "
            f"{' '.join(str(error).split())}"
        ) from error
    finally:
        if handle is not None:
            handle.remove()
    if seen and isinstance(seen[0], Tensor) and seen[0].dim() == 3:
        return ImageTower(model, finish, embeddings=embeddings, num_tokens=seen[0].shape[1], width=seen[0].shape[2])
    return ImageTower(model, finish, embeddings=None, num_tokens=1, width=0)


# -- any text encoder with any image model


class ConvStem(nn.Sequential):
    """Patches by small convolutions, each halving height and width, in place of one large one: such towers learn from fewer pictures.

    Source: Xiao et al., Early Convolutions Help Transformers See Better, NeurIPS 2021.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        inside = [3, *widths]
        for i, (a, b) in enumerate(pairwise(inside)):
            last = i == len(widths) - 1
            layers.append(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=last))
            layers += [] if last else [nn.GroupNorm(8, b), nn.GELU()]
        super().__init__(*layers)

    @property
    def weight(self) -> Tensor:
        """Where the model around it looks for the precision of pixels."""
        found = self[0].weight
        assert isinstance(found, Tensor)
        return found


def image_model(config: PretrainedConfig, stem: Sequence[int] | None) -> PreTrainedModel:
    """Return an image model with fresh weights; with `stem`, the channels of each convolution that makes its patches (ViT).

    Raises:
        ModelError: the stem does not fit the model.
    """
    from transformers import AutoModel

    model = AutoModel.from_config(config, trust_remote_code=False)
    if stem is None:
        return model
    patches = getattr(getattr(model, "embeddings", None), "patch_embeddings", None)
    if patches is None or 2 ** len(stem) != config.patch_size or stem[-1] != config.hidden_size:
        raise ModelError(
            f"A stem of {list(stem)} channels makes patches of {2 ** len(stem)} pixels of width {stem[-1]}; the image model's are of "
            f"{getattr(config, 'patch_size', 'another kind')} and width {getattr(config, 'hidden_size', '?')}."
        )
    patches.projection = ConvStem(stem)
    return model


def _pair(folder: Path, name: str) -> DualEncoder:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig

    try:
        about = read_object(folder / PAIR)
        text, vision, size = about["text"], about["vision"], int(about["image"]["size"])
        weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
        place, language_place = _tower_place(folder, str(vision["name"])), _tower_place(folder, str(text["name"]))
        with quiet():
            tower = image_model(AutoConfig.from_pretrained(place, trust_remote_code=False), vision.get("stem"))
        projection, text_projection = weights["image_projection.weight"], weights.get("text_projection.weight")
        scale = math.exp(float(about["logit_scale"]))
        image = about["image"]
        pixels = Preprocess.square(
            size, mean=tuple(image["mean"]), std=tuple(image["std"]), resample=RESAMPLING[image.get("resample", "bicubic")]
        )
        pooling, text_pooling = vision["pooling"], text["pooling"]
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder / PAIR} or what it names cannot be read: {type(error).__name__} {error}.") from error
    for value, known in ((pooling, IMAGE_POOLINGS), (text_pooling, POOLINGS)):
        if value not in known:
            raise ModelError(f"{folder / PAIR}: unknown pooling '{value}'. Known: {', '.join(known)}.")
    own = {key.removeprefix("vision."): value for key, value in weights.items() if key.startswith("vision.")}
    if pooling != "pooler" and hasattr(tower, "pooler") and not any(key.startswith("pooler.") for key in own):
        tower.pooler = None  # nobody reads it, and its weights would be other random ones each time
    try:
        told = tower.load_state_dict(own, strict=False)
    except RuntimeError as error:  # shapes of another size
        raise ModelError(f"{folder}/model.safetensors does not fit its config.json: {' '.join(str(error).split())[:300]}") from error
    if told.missing_keys or told.unexpected_keys:
        raise ModelError(
            f"{folder}/model.safetensors does not fit its config.json: lacking {told.missing_keys[:3] or 'nothing'}, unknown "
            f"{told.unexpected_keys[:3] or 'nothing'}."
        )
    language = load_frozen(language_place, kind="encoder")
    return paired(
        tower, language.model, language.tokenizer, projection, text_projection, pooling, text_pooling, scale=scale, pixels=pixels, name=name
    )


def _tower_place(folder: Path, named: str) -> str:
    """Return what a tower is loaded by that a pair names: a folder inside the pair's own, or a hub name. No other folder is read.

    Raises:
        ModelError: it is one elsewhere on this machine.
    """
    check_inside(str(folder), named)
    if (folder / named).is_dir():
        return str(folder / named)
    if Path(named).expanduser().exists():  # relative to where the process stands, or in somebody's home
        raise ModelError(f"{folder / PAIR} names {named!r}, which is outside of its folder: it is not read. Put it into {folder}.")
    return named


def paired(
    vision: nn.Module,
    text: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    projection: Tensor,
    text_projection: Tensor | None,
    pooling: Pooling,
    text_pooling: Pooling,
    *,
    scale: float,
    pixels: Preprocess,
    name: str,
) -> DualEncoder:
    """Return a dual encoder of any text encoder and any image model, with projections ``(embed_dim, width)`` onto their common space."""
    projections = nn.ParameterDict({"image": nn.Parameter(projection, requires_grad=False)})
    if text_projection is not None:
        projections["text"] = nn.Parameter(text_projection, requires_grad=False)
    held = nn.ModuleDict({"vision": vision, "text": text, "projections": projections})
    held.requires_grad_(False)
    held.eval()

    def image_features(output: ModelOutput) -> Tensor:
        return pooled(output, None, pooling) @ projections["image"].T

    def text_features(output: ModelOutput, mask: Tensor) -> Tensor:
        own = pooled(output, mask, text_pooling)
        return own if text_projection is None else own @ projections["text"].T

    reads = _most(text.config, tokenizer)
    tower = TextTower(text, tokenizer, text_features, most=reads)
    reads_alike(tower, name)
    image = image_tower(vision, image_features, pixels, name)
    return DualEncoder(name, tower, image, scale, int(projection.shape[0]), pixels, held)


# -- open_clip


class _OpenText(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.model.encode_text(input_ids)
        return found


class _OpenImage(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        found: Tensor = self.model.encode_image(pixel_values)
        return found


def _open_clip(name: str) -> DualEncoder:
    try:
        import open_clip
    except ImportError as error:
        raise ModelError(f'{name} needs the package open_clip_torch: pip install "maao[open_clip]"') from error
    architecture, _, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    try:
        model = open_clip.create_model(architecture, pretrained=pretrained or None)
    except (RuntimeError, OSError, ValueError) as error:
        raise ModelError(f"open_clip cannot make {architecture} with the weights '{pretrained}': {error}") from error
    return from_open_clip(model, open_clip.get_tokenizer(architecture), name)


def from_open_clip(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> DualEncoder:
    """Return the towers of an open_clip model that is at hand: texts at their full length, images without room for prompts."""
    from transformers import CLIPTokenizer

    if not hasattr(tokenizer, "bpe_ranks") or not hasattr(model, "token_embedding"):
        raise ModelError(f"{name}: of open_clip, models with CLIP's own text tower and tokenizer can be used; this one has others.")
    model.requires_grad_(False)
    model.eval()
    begin, end = tokenizer.sot_token_id, tokenizer.eot_token_id  # under other names than transformers' own
    named = {begin: "<|startoftext|>", end: "<|endoftext|>"}
    fast = CLIPTokenizer(vocab={named.get(i, token): i for token, i in tokenizer.encoder.items()}, merges=list(tokenizer.bpe_ranks))
    most = int(model.context_length)
    embedding = model.token_embedding
    text = TextTower(
        _OpenText(model), fast, lambda output, mask: output, most=most, padded_to=most, with_mask=False, embedding=embedding, pad_id=0
    )
    text.layers = model.transformer.resblocks
    pixels = _open_clip_transform(model.visual, name)
    with torch.no_grad():
        dim = int(model.encode_image(torch.zeros(1, 3, pixels.height, pixels.width, dtype=embedding.weight.dtype)).shape[1])
    image = ImageTower(_OpenImage(model), lambda output: output, embeddings=None, num_tokens=1, width=0)
    return DualEncoder(name, text, image, float(model.logit_scale.detach().exp()), dim, pixels, model)


def _open_clip_transform(visual: nn.Module, name: str) -> Preprocess:
    """Return what `create_model` notes beside an image tower; where nothing is noted, CLIP's transform at the tower's size."""
    size = visual.image_size
    held = {"size": size, "resize_mode": "shortest", "interpolation": "bicubic", **getattr(visual, "preprocess_cfg", {})}
    size, mode, resample = held["size"], held["resize_mode"], held["interpolation"]
    high, wide = (int(size[0]), int(size[1])) if isinstance(size, tuple | list) else (int(size), int(size))
    if mode not in ("shortest", "squash") or (mode == "shortest" and high != wide):
        raise ModelError(f"{name}: pictures that are resized to {high} x {wide} by the way '{mode}' are not supported.")
    options = {key: tuple(held[key]) for key in ("mean", "std") if held.get(key) is not None}
    shortest = None if mode == "squash" else high
    return Preprocess(high, wide, shortest, resample=RESAMPLING.get(resample, RESAMPLING["bicubic"]), **options)
