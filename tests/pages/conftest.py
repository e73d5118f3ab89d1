"""The tiny models of `tests/api/fixtures.py`, for the tests of this folder."""

from tests.api.fixtures import llama, model_folder

__all__ = ["llama", "model_folder"]
