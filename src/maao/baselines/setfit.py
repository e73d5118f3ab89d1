"""SetFit: a sentence encoder tuned on pairs of labelled texts, then logistic regression on its features. The library does it."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from maao.baselines.labelled import Fitted, LabelledBaseline, check_several_classes
from maao.baselines.measured import peak_memory
from maao.baselines.task import LEAST, Floats, Part, Task, over_all
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.options import MANY
from maao.threads import one_thread
from maao.types import Cost

if TYPE_CHECKING:
    from setfit import SetFitModel

    from maao.problems.frozen import Sentences

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
NOTHING: Mapping[str, str] = MappingProxyType({})
ON_PROCESSOR = {"ACCELERATE_USE_CPU": "true"}  # else the library's trainer takes an accelerator wherever there is one


class SetFit(LabelledBaseline):
    """The library `setfit` on the run's encoder: contrastive steps on pairs of texts, then its own logistic regression (C = 1).

    One thread is used, nothing is written, and nothing leaves the machine. The weights that a run holds are not touched.

    Source: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022; setfit 1.2.
    """

    takes_long: ClassVar[bool] = True
    told: ClassVar[str] = "a sentence encoder tuned on pairs of texts, then logistic regression (the library setfit)"

    steps: int = Field(25, ge=0, le=MANY, description="Steps on pairs; 0: logistic regression alone.")
    batch_size: int = Field(16, ge=1, le=MANY, description="Pairs a step, each of two texts.")
    lr: float = Field(2e-5, gt=0, le=1, description="Learning rate of the encoder.")

    def fit(self, task: Task, known: Part) -> Fitted:
        import torch

        check_several_classes("setfit", known.targets)
        began, seed = time.perf_counter(), seed_for(task.config.seed, "setfit") % 2**31
        source = task.frozen.sentences()
        told = ON_PROCESSOR if torch.device(source.device).type == "cpu" else {}
        with one_thread(), peak_memory() as peak, _in_silence(told), torch.random.fork_rng(devices=[]):
            model = self._tuned(source, known, seed)
        cost = Cost(gradient_steps=self.steps, seconds=time.perf_counter() - began)

        def answer(part: Part) -> Floats:
            with one_thread(), _in_silence():
                found = np.asarray(model.predict_proba(source.texts(part.examples), as_numpy=True), dtype=np.float64)
            shares = over_all(found, model.model_head.classes_, task.num_classes, 0.0)
            return np.log(np.maximum(shares, LEAST))  # the library's own answers may be zero too

        return Fitted(answer, {"steps": self.steps}, cost, peak.mib)

    def _tuned(self, source: Sentences, known: Part, seed: int) -> SetFitModel:
        """Return the library's model, after its steps."""
        try:
            from datasets import Dataset
            from sentence_transformers import SentenceTransformer
            from setfit import SetFitModel, Trainer, TrainingArguments
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise ConfigError("The baseline 'setfit' needs the packages setfit and datasets: pip install \"maao[setfit]\".") from error
        body = SentenceTransformer(source.name, device=source.device, revision=source.revision, local_files_only=True)
        body.max_seq_length = source.max_length
        model = SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000))
        texts, targets = source.texts(known.examples), known.targets.tolist()
        if not self.steps:
            model.fit(texts, targets, num_epochs=1)
            return model
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=self.batch_size,
                max_steps=self.steps,
                num_epochs=1,
                body_learning_rate=self.lr,
                max_length=source.max_length,
                seed=seed,
                report_to="none",
                save_strategy="no",
                eval_strategy="no",
                logging_strategy="no",
                show_progress_bar=False,
            )
            Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict({"text": texts, "label": targets})).train()
        return model


@contextmanager
def _in_silence(further: Mapping[str, str] = NOTHING) -> Iterator[None]:
    """Keep the libraries from printing bars and logs, and from telling anyone that they are used; tell them `further` as well."""
    told = {**QUIET, **further}
    kept = {name: os.environ.get(name) for name in told}
    disabled = logging.root.manager.disable
    with ExitStack() as stack, open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.environ.update(told)
        try:
            yield
        finally:
            logging.disable(disabled)
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
