"""A tuned classifier on the Hugging Face Hub: what predicts, as JSON and safetensors, and a model card that is written from its run.

No training example goes there, no code and no pickle. The card's words from outside are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from maao.config import Config
from maao.data.dataset import HUB, PACKAGED
from maao.errors import ConfigError, StoreError
from maao.llm.guarded import cause_of
from maao.llm.secrets import without_secrets
from maao.predictor import ABOUT, POINT, Predictor, code_named, config_in_use, load
from maao.printable import markdown, printable_line
from maao.problems.towers.text.loading import CODE_RUNS, on_hub
from maao.report.lines import cost_told
from maao.report.story import Sentence, ending_of, story
from maao.result import Result
from maao.types import Score, choice_name, readable

CARD = "README.md"
FILES = (CARD, ABOUT, POINT)
TOLD = ("result", "gain", "sure", "mentor")  # topics of a run's story; how it went, and what to do next, is its owner's affair
HUB_NAMES = {  # where packaged models come from
    "packaged:all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "packaged:smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
REPO = re.compile(r"[\w.-]+/[\w.-]+")
NO_LICENCE = "**No licence is named yet.** Until its owner names one, nobody else may use it: one that suits the frozen model and the data."


def push_to_hub(
    result: Result | str | Path,
    repo: str,
    *,
    private: bool = True,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    dataset: str | None = None,
    about: str = "",
    base_model: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload a run's classifier, with a model card, and return the address of the commit. It overwrites what is there under the same names.

    What goes there: the point, the settings that predicting reads (labels, template, label words), and the card. No training example.

    Args:
        result: a finished run, or its folder.
        repo: "ORG/NAME"; it is made where there is none.
        private: whether a repository that is made is private.
        license: of what is uploaded ("apache-2.0"); without one the card says that there is none yet.
        language: of the texts ("en").
        dataset: a data set of the hub that it was tuned on ("PolyAI/banking77"), where the run does not say it.
        about: a paragraph for the card.
        base_model: the hub's name of the frozen model, where the run names a folder. `from_hub` checks its weights.
        token: of the hub; by default the one that `hf auth login` keeps.
        endpoint: of another hub.

    Raises:
        ConfigError: the run is not finished or labels nothing, the frozen model has no name that others can load it by.
        StoreError: the hub refuses, or cannot be reached.

    Example:
        >>> maao.push_to_hub("runs/demo-seed0", "me/bank-intents", license="cc-by-4.0")  # doctest: +SKIP
        'https://huggingface.co/me/bank-intents/commit/...'
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if not REPO.fullmatch(repo):
        raise ConfigError(f"A repository is named ORG/NAME; got {repo!r}. To write a folder take `maao.hub.save_for_hub`.")
    with TemporaryDirectory(prefix="maao-hub-") as folder:
        save_for_hub(result, folder, repo=repo, license=license, language=language, dataset=dataset, about=about, base_model=base_model)
        api = HfApi(endpoint=endpoint, token=token)
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a classifier tuned with maao")
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
            raise StoreError(f"{repo} cannot be uploaded: {_told(error, token)}") from cause_of(error, token or "")
    return str(done.commit_url)


def save_for_hub(
    result: Result | str | Path,
    folder: str | Path,
    *,
    repo: str | None = None,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    dataset: str | None = None,
    about: str = "",
    base_model: str | None = None,
) -> list[Path]:
    """Write into a folder what `push_to_hub` uploads, and return the files: to read it before, or to share it otherwise.

    `from_hub` reads such a folder too. Arguments and errors as for `push_to_hub`.
    """
    found = result if isinstance(result, Result) else Result(result)
    if found.status != "finished":
        raise ConfigError(f"The run {found.folder} is {found.status}: `maao resume {found.folder}` finishes it.")
    predictor = shareable(found.predictor, base_model)
    place = Path(folder)
    files = predictor.save(place)
    card = model_card(found, predictor, repo or place.name, license=license, language=language, dataset=dataset, about=about)
    try:
        (place / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StoreError(f"Cannot write to {place}: {error.strerror or error}.") from error
    return [place / CARD, *files]


def from_hub(
    repo: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    trust_remote_code: bool = False,
) -> Predictor:
    """Return a classifier that `push_to_hub` uploaded, or that `save_for_hub` wrote into a folder. Only JSON and safetensors are read.

    The frozen model is loaded by its name when the classifier is first used, and must have the weights that it was tuned on.

    Args:
        repo: "ORG/NAME", or a folder.
        revision: a branch or commit.
        trust_remote_code: take one whose frozen model runs Python files of its own.

    Raises:
        StoreError: there is none, it is damaged, or it names code in a file.

    Example:
        >>> maao.from_hub("me/bank-intents").predict(["Where is my card?"])[0].label  # doctest: +SKIP
        'card_arrival'
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(repo).is_dir():
        return load(repo, trust_remote_code=trust_remote_code)
    try:
        place = snapshot_download(
            str(repo), revision=revision, token=token, cache_dir=cache_dir, endpoint=endpoint, allow_patterns=[ABOUT, POINT]
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise StoreError(f"{repo} cannot be read from the hub: {_told(error, token)}") from cause_of(error, token or "")
    return load(place, name=str(repo), trust_remote_code=trust_remote_code)


def _told(error: Exception, token: str | None) -> str:
    return printable_line(without_secrets(str(error), token or ""))


def shareable(predictor: Predictor, base_model: str | None = None) -> Predictor:
    """Return a classifier whose frozen model others can load: by a name on the hub, or as a packaged model.

    Raises:
        ConfigError: it is a folder of this machine, or a file of code is needed, which `from_hub` never runs.
    """
    model = predictor.config.model
    if code_named(config_in_use(predictor.config)):
        raise ConfigError("The classifier needs code in a file of its own, which nobody who loads it has: it cannot be shared.")
    name, revision = base_model or model.name, model.revision
    if base_model is None and not name.startswith(PACKAGED):
        name, revision = on_hub(name, revision)
    if not name.startswith(PACKAGED) and (not REPO.fullmatch(name) or Path(name).exists()):
        raise ConfigError(
            f"The frozen model is {model.name}, a place on this machine that others do not have: give base_model='ORG/NAME', its name on "
            "the hub."
        )
    return predictor.with_model(model.model_copy(update={"revision": revision}).with_kind(name=name))


def model_card(
    result: Result,
    predictor: Predictor,
    name: str,
    *,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    dataset: str | None = None,
    about: str = "",
) -> str:
    """Return the model card of a run, Markdown with its data in YAML in front."""
    config, given = result.config, dataset or _dataset(result.config)
    cost, estimated = result.cost_about
    front = _front(result, predictor, name, license, language, given)
    trusting = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    frozen, method = markdown(predictor.config.model.name), markdown(choice_name(config.model.method.name))
    intro = f"A classifier with {len(predictor.labels)} classes: the frozen model {frozen} with what maao tuned for it (method {method})."
    parts = [
        f"# {markdown(name)}",
        markdown(about),
        intro,
        "## What came of it",
        *(f"- {markdown(said.text)}" for said in story(ending_of(result)) if _is_public(said)),
        "## How to use it",
        CODE_RUNS if config.model.trust_remote_code else "",
        "```python",
        "import maao",
        f"classifier = maao.from_hub({name if REPO.fullmatch(name) else 'THIS FOLDER'!r}{trusting})",
        f"print(classifier.predict([{'...'!r}])[0].label)",
        "```",
        f"It reads {markdown(', '.join(predictor.inputs.fields))}, and answers with one of: {markdown(', '.join(predictor.labels[:50]))}"
        + (f", and {len(predictor.labels) - 50} more." if len(predictor.labels) > 50 else "."),
        "## Figures",
        *_figures(result),
        "## Data",
        *_data(result, given),
        "## The mentor",
        *_mentor(result),
        "## Cost",
        markdown(cost_told(cost, result.where_judged, about=estimated)),
        "## Licence",
        markdown(license) if license else NO_LICENCE,
    ]
    return front + "\n" + _joined(parts) + "\n"


def _is_public(said: Sentence) -> bool:
    """Return whether a sentence is for a card: a warning on the mentor holds words of its server, or a place on this machine."""
    return said.topic in TOLD and not (said.topic == "mentor" and said.is_warning)


def _joined(parts: Sequence[str]) -> str:
    """Return Markdown with an empty line between paragraphs, and none within tables, lists and code."""
    text, before = "", ""
    code = False
    for part in filter(None, parts):
        together = code or (before[:1] in ("|", "-") and part[:1] == before[:1])
        code = (not code) if part.startswith("```") else code
        text += ("" if not text else "\n" if together else "\n\n") + part
        before = part
    return text


def _front(result: Result, predictor: Predictor, name: str, license: str | None, language: str | Sequence[str] | None, dataset: str) -> str:
    """Return the card's data, as the hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    base = HUB_NAMES.get(predictor.config.model.name, predictor.config.model.name)
    of_pictures = result.config.pictures is not None
    final = result.finals.get("chosen")
    task = "image-classification" if of_pictures else "text-classification"
    figures = [
        EvalResult(task, dataset or "unpublished", dataset or "unpublished", choice_name(key), round(value, 6), dataset_split="test")
        for key, value in ({} if final is None else final.score.metrics).items()
    ]
    data = ModelCardData(
        base_model=None if base.startswith(PACKAGED) else base,
        datasets=dataset if REPO.fullmatch(dataset) else None,
        eval_results=figures or None,
        language=language if language is None or isinstance(language, str) else list(language),
        library_name="maao",
        license=license,
        model_name=name,
        pipeline_tag=task,
        tags=["maao", "prompt-tuning", choice_name(result.config.model.method.name)],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _dataset(config: Config) -> str:
    source = config.data.options.source
    return source.removeprefix(HUB) if source.startswith((HUB, PACKAGED)) else ""


def _figures(result: Result) -> Iterator[str]:
    """Yield a table of what was read on `test`, and on the examples that chose."""
    rows: list[tuple[str, Score]] = [(f"tuned, {result.where_judged} (these chose)", result.chosen.score)]
    rows += [(f"{name}, on test", final.score) for name, final in result.finals.items()]
    metrics = list(dict.fromkeys(key for _, score in rows for key in score.metrics))
    yield "| point | examples | loss | " + " | ".join(markdown(readable(key)) for key in metrics) + " |"
    yield "| --- | " + " | ".join(["---:"] * (len(metrics) + 2)) + " |"
    for told, score in rows:
        yield _row(told, score.num_examples, score.loss, score.metrics, metrics)
    where = "on test" if result.baselines is None or result.baselines.where == "test" else result.baselines.where
    for one in () if result.baselines is None else result.baselines.baselines:
        yield _row(f"baseline {one.told}, {where}", one.num_examples, one.loss, one.metrics, metrics)


def _row(told: str, examples: int, loss: float, metrics: Mapping[str, float], names: Sequence[str]) -> str:
    figures = " | ".join(f"{metrics[key]:.3f}" if key in metrics else "" for key in names)
    return f"| {markdown(told)} | {examples} | {loss:.3f} | {figures} |"


def _data(result: Result, dataset: str) -> Iterator[str]:
    sizes: Mapping[str, int] = result.environment.get("sizes", {})
    yield f"Data set: {markdown(dataset)}." if dataset else "Data set: not named. Its examples are not part of this repository."
    if sizes:
        yield f"{sizes['train']} examples were tuned on, {sizes['select']} apart chose, and {sizes['test']} were read at the end, once."
    if result.is_cross_validated:
        yield "Each example that was tuned on chose too, judged by what was tuned without it (cross-validation)."
    protocol = result.config.data.options.protocol_name
    if protocol:
        yield f"Splits: {markdown(protocol)}."


def _mentor(result: Result) -> Iterator[str]:
    """Yield what the mentor did: it was asked, it proposed, some of it was taken."""
    asked = [one for one in result.history if one.leg.ask]
    if not asked:
        yield "None was asked: the point was found by gradient steps alone."
        return
    taken = [one.advice.proposals[one.verdict.chosen] for one in asked if one.verdict.chosen is not None]
    proposals, rejected = sum(len(one.advice.proposals) for one in asked), sum(len(one.advice.rejected) for one in asked)
    yield (
        f"{markdown(choice_name(result.config.mentor.name))}, asked {len(asked)} times, proposed {proposals} starts ({rejected} more could "
        f"not be used); {len(taken)} became the start of a walk, judged by the rule {markdown(choice_name(result.config.accept.name))}."
    )
    yield from (f"- {markdown(one.text)}" for one in taken if one.text)
    if result.text:
        yield f"The tuned prompt's nearest words: {markdown(result.text)}"
