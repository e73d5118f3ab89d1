"""Points of plain functions as text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maao.codecs.numbers import NumberCodec
from maao.errors import CodecError

CODEC = NumberCodec(2, digits=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2", "1.00 2.00"),
        ("x = -1.5, y = +.25", "-1.50 0.25"),
        ("(1e-1; 2E1)", "0.10 20.00"),
        ("-0.001 0.004", "0.00 0.00"),
        ("[3., -4.]", "3.00 -4.00"),
    ],
)
def test_numbers_are_read_however_they_are_written(text, told):
    assert CODEC.encode(text).text == told


@pytest.mark.parametrize("text", ["", "one two", "1", "1 2 3", "1e999 2", "nan inf"])
def test_text_that_is_no_point_is_refused(text):
    with pytest.raises(CodecError, match="2 finite numbers"):
        CODEC.encode(text)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_any_point_is_told_to_half_a_digit(values):
    told = CODEC.encode(CODEC.decode({"x": torch.tensor(values, dtype=torch.float64)}).text).params["x"]
    assert all(abs(a - b) <= 0.005 + 1e-9 for a, b in zip(told.tolist(), values, strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_point_at_infinity_has_no_words(value):
    with pytest.raises(CodecError, match="finite"):
        CODEC.encode(CODEC.decode({"x": torch.tensor([value, 0.0])}).text)
