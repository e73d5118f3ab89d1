"""Tiny models on the disk, made once a session: what a config can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the function from an architecture ("llama", "gpt2", "bert", ...) to the folder of such a model, 2 layers deep."""
    from transformers.utils import logging

    from tests.tiny import tiny_model

    parent = tmp_path_factory.mktemp("models")

    def folder(architecture: str) -> Path:
        path = parent / architecture
        if not path.exists():
            bar = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
            frozen = tiny_model(architecture)
            frozen.model.save_pretrained(path)
            frozen.tokenizer.save_pretrained(path)
            if bar:
                logging.enable_progress_bar()
        return path

    return folder


@pytest.fixture(scope="session")
def llama(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("llama")
