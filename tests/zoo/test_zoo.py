"""The zoo: what is computed for a text is what plain transformers computes for it, for every class of language model that it knows."""

from __future__ import annotations

import pytest

from maao.errors import ModelError
from maao.problems.towers.text.loading import kind_of
from tests.zoo.cases import Case, all_cases, checked_cases
from tests.zoo.checks import examine
from tests.zoo.page import read_page
from tests.zoo.results import faults
from tests.zoo.table import LEFT_OUT, OPEN, OVERRIDES, REFUSED, TOLERANCE

# Windows, absolute and relative positions, alibi, states in place of keys, padding on the left, narrow tables, experts: one of each kind.
FAST = """
    decoder:mistral decoder:gemma3_text decoder:gpt2 decoder:bloom decoder:gpt_neox decoder:falcon decoder:opt decoder:phi decoder:mamba
    decoder:lfm2 decoder:qwen3_next decoder:gemma2 decoder:openai-gpt encoder_decoder:bart encoder_decoder:led encoder_decoder:t5
    masked:bert masked:roberta masked:deberta-v2 masked:convbert encoder:bert
""".split()


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=str(case), marks=() if str(case) in FAST else pytest.mark.zoo) for case in checked_cases()],
)
def test_a_model_reads_as_plain_transformers_reads_each_text_alone(case):
    assert faults(examine(case, quick=str(case) in FAST)) == []


def test_the_fast_ones_are_twenty_or_more_of_the_zoo():
    assert len(FAST) >= 20 and set(FAST) <= set(map(str, checked_cases())) - set(REFUSED)


def test_each_class_of_the_installed_transformers_stands_on_the_page():
    """A new version's new classes fail here until `make test-zoo` has examined them, or the table says why they are left out."""
    page = read_page()
    assert page.keys() == set(map(str, all_cases()))
    assert {name for name, works in page.items() if not works} == {*REFUSED, *LEFT_OUT, *OPEN}
    assert len({name.partition(":")[2] for name, works in page.items() if works}) >= 100


def test_the_table_names_nothing_that_transformers_does_not_know():
    names = {str(case) for case in all_cases()}
    types = {case.type for case in all_cases()}
    assert {*REFUSED, *LEFT_OUT, *OPEN, *TOLERANCE} <= names and OVERRIDES.keys() <= names | types
    assert not set(REFUSED) & set(LEFT_OUT)


def test_models_of_pictures_and_sound_that_are_no_language_models_are_refused_in_words(tmp_path):
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    others = sorted(set(MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES) - {case.type for case in all_cases()})
    assert len(others) > 50
    for name in others:
        (tmp_path / "config.json").write_text(f'{{"model_type": "{name}"}}')
        with pytest.raises(ModelError, match=f"is of type '{name}', which is neither a causal or masked language model"):
            kind_of(str(tmp_path))


def test_a_case_prints_as_kind_and_type():
    assert str(Case("decoder", "llama")) == "decoder:llama"
