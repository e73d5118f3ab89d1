"""The tiny models of `tests/api/fixtures.py` and a browser, for the tests of this folder."""

from tests.api.fixtures import llama, model_folder
from tests.browser import chromium

__all__ = ["chromium", "llama", "model_folder"]
