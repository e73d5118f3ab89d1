"""What must hold of the source as a whole. `python -m tests.house` prints what is counted here."""

from __future__ import annotations

import ast

from tests import house

MOST_ANY = 200
MOST_BRANCHES = 5
MOST_BRANCHES_BY_PROBLEM = 5
MOST_LINES_OF_BUILD = 300


def test_no_modules_import_one_another():
    assert house.import_cycles(inside_functions=False) == []


def test_members_of_our_own_protocols_are_asked_for_by_type():
    ours = {file: calls for file, calls in house.asked_by_name().items() if file not in house.FOREIGN}
    assert ours == {}


def test_files_that_ask_foreign_objects_by_name_still_do():
    assert set(house.FOREIGN) <= set(house.asked_by_name())


def test_any_is_rare():
    assert sum(house.anys().values()) <= MOST_ANY


def test_few_places_ask_what_kind_of_input_a_run_is_on():
    places = house.branches_by_kind()
    assert sum(map(len, places.values())) <= MOST_BRANCHES, places


def test_few_places_ask_whether_the_problem_is_a_function():
    places = house.branches_by_problem()
    assert sum(map(len, places.values())) <= MOST_BRANCHES_BY_PROBLEM, places


def test_a_run_is_built_in_few_lines():
    assert house.modules()["maao.build"].lines <= MOST_LINES_OF_BUILD


def test_what_is_loaded_with_a_module_is_told_from_what_its_functions_import():
    code = """
if TYPE_CHECKING:
    import maao.a
else:
    import maao.b
try:
    from maao import c
except ImportError:
    pass
class Thing:
    from maao.d import x
    def method(self):
        import maao.e
"""
    module = house.Module("maao.whole", house.SOURCE)
    object.__setattr__(module, "tree", ast.parse(code))
    known = {f"maao.{name}" for name in "abcde"}
    assert house.imports(module, known, inside_functions=False) == {"maao.b", "maao.c", "maao.d"}
    assert house.imports(module, known, inside_functions=True) == {"maao.b", "maao.c", "maao.d", "maao.e"}


def test_branches_by_kind_are_found_in_all_their_forms():
    yes = (
        "config.problem == 'vision'",
        "config.data.input in ('text', 'image')",
        "TABLE[config.data.input]",
        "a if self._sees else b",
    )
    no = ("model.kind == 'head'", "config.problem", "name == 'text'", "data.source == 'emoji'")
    asks = [any(map(house._asks_kind, ast.walk(ast.parse(text)))) for text in (*yes, *no)]
    assert asks == [True] * len(yes) + [False] * len(no)
