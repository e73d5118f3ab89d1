"""What must hold of the source as a whole, read from its syntax: ``python -m tests.house`` reports it, `test_house.py` asserts it.

* Import cycles: strongly connected modules, once with what is imported when a module is loaded, once with what functions import too. What
  stands under ``if TYPE_CHECKING`` is left out: it is never imported.
* `getattr`, `hasattr`: each call. Members of our own protocols are asked for by type; only objects that others made are asked by name, and
  the files that meet them are listed here with the reason.
* `Any`: each time that the name stands in the source, beside its import.
* Branches by kind of input (texts or pictures): outside `problems/` and `data/`, each comparison of a name of `KIND_NAMES` with a text of
  `KINDS`, each `match` of `input` or look-up of a table by it, and each test of a name that says what a run is on (`SAYS_KIND`). Those that
  ask whether the problem is a plain function, which has no inputs, are counted apart.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "maao"
BY_NAME = ("getattr", "hasattr")
KIND_NAMES = ("problem", "input")
KINDS = ("language", "vision", "text", "image")
PROBLEMS = ("classification", "function")
SAYS_KIND = ("_sees", "sees", "_sees_images", "is_image", "is_text")
BELOW = ("problems", "data")

# file -> why objects are asked by name there
MODELS = "models, configs and tokenizers of transformers and open_clip, which differ by family"
FOREIGN: Mapping[str, str] = {
    "__init__.py": "the package's own names, imported when they are asked for",
    "choices.py": "classes of the table, by the name that stands in it",
    "codecs/nearest_token.py": MODELS,
    "config.py": "settings, by their key",
    "data/hub.py": "columns of the package datasets",
    "data/images/hub.py": "columns of the package datasets",
    "data/images/levels.py": "pictures of Pillow, which differ by format",
    "data/images/reading.py": "pictures of Pillow, which differ by format",
    "data/memory.py": "classes of libraries that need not be installed",
    "export/peft_write.py": MODELS,
    "export/tensors.py": MODELS,
    "export/use_prompt.py": "classes of transformers and types of torch, by the names that a file holds; it stands alone, without maao",
    "llm/local.py": MODELS,
    "optimizers/torch.py": "optimizers of torch, by their name",
    "options.py": "settings, by their key",
    "problems/kinds.py": "settings, by their key",
    "problems/towers/dual.py": MODELS,
    "problems/towers/dual_loading.py": MODELS,
    "problems/towers/text/attention.py": MODELS,
    "problems/towers/text/forward.py": MODELS,
    "problems/towers/text/loading.py": MODELS,
    "problems/towers/text/sentence.py": "activations of torch, by the name that a checkpoint's file holds",
    "problems/towers/text/tokenizing.py": MODELS,
    "store/files.py": "errors of SQLite, of which only those that it raises itself have a code",
    "store/values.py": "fields of dataclasses, by their declaration",
}


@dataclass(frozen=True)
class Module:
    """A file of the source."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def file(self) -> str:
        """Its path inside `src/maao`."""
        return self.path.relative_to(SOURCE).as_posix()

    @property
    def lines(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())


def modules(source: Path = SOURCE) -> dict[str, Module]:
    """Return the modules by their dotted name; a package is named as its folder is."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = ["maao", *path.relative_to(source).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path)
    return found


# -- imports


def imports(module: Module, known: Iterable[str], *, inside_functions: bool) -> set[str]:
    """Return the modules that a module imports from: the one that a name stands in, not the packages around it."""
    known = set(known)
    found: set[str] = set()
    for node in _run(module.tree, inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {whole if (whole := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return (found & known) - {module.name}


def _run(node: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    """Yield the statements that are run when a module is loaded, and on request those of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _run(other, inside_functions)
                yield other
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inside_functions:
            continue
        yield child
        yield from _run(child, inside_functions)


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that lead to one another (strongly connected components of two or more), by Tarjan's algorithm.

    Example:
        >>> cycles({"a": {"b"}, "b": {"a"}, "c": {"a"}})
        [['a', 'b']]
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def import_cycles(*, inside_functions: bool) -> list[list[str]]:
    held = modules()
    return cycles({name: imports(module, held, inside_functions=inside_functions) for name, module in held.items()})


# -- names


def asked_by_name() -> dict[str, list[str]]:
    """Return the calls of `getattr` and `hasattr`, by file, each with its line."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
                found[module.file].append(f"{node.lineno}: {ast.unparse(node)}")
    return dict(found)


def anys() -> Counter[str]:
    """Return how often each file says `Any`."""
    found: Counter[str] = Counter()
    for module in modules().values():
        told = sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(module.tree))
        if told:
            found[module.file] = told
    return found


# -- branches by kind of input


def branches_by_kind() -> dict[str, list[str]]:
    """Return the places above `problems/` and `data/` that ask whether a run is on texts or on pictures, by file."""
    return _places(_asks_kind)


def branches_by_problem() -> dict[str, list[str]]:
    """Return those that ask whether a run is on a plain function."""
    return _places(_asks_problem)


def _places(asks: Callable[[ast.AST], bool]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for module in modules().values():
        if module.file.split("/")[0] in BELOW:
            continue
        for node in ast.walk(module.tree):
            if asks(node):
                found[module.file].append(f"{getattr(node, 'lineno', 0)}: {ast.unparse(node).splitlines()[0]}")
    return dict(found)


def _asks_kind(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return _compares(node, KIND_NAMES, KINDS)
    if isinstance(node, ast.Match | ast.Subscript):
        return _is_named(node.subject if isinstance(node, ast.Match) else node.slice, ("input",))
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return any(isinstance(inner, ast.Attribute) and inner.attr in SAYS_KIND for inner in ast.walk(node.test))
    return False


def _asks_problem(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return _compares(node, ("problem",), PROBLEMS)
    if isinstance(node, ast.Match | ast.Subscript):
        return _is_named(node.subject if isinstance(node, ast.Match) else node.slice, ("problem",))
    return False


def _compares(node: ast.Compare, names: Collection[str], texts: Collection[str]) -> bool:
    sides = [node.left, *node.comparators]
    return any(_is_named(side, names) for side in sides) and any(_says(side, texts) for side in sides)


def _is_named(node: ast.expr, names: Collection[str]) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in names


def _says(node: ast.expr, texts: Collection[str]) -> bool:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(_says(inner, texts) for inner in node.elts)
    return isinstance(node, ast.Constant) and node.value in texts


# -- the report


def report() -> str:
    """Return all of it in words."""
    held = modules()
    sizes = sorted(held.values(), key=lambda module: -module.lines)
    asked, said, branches, functions = asked_by_name(), anys(), branches_by_kind(), branches_by_problem()
    ours = {file: calls for file, calls in asked.items() if file not in FOREIGN}
    loaded, called = import_cycles(inside_functions=False), import_cycles(inside_functions=True)
    told = [
        f"{len(held)} modules, {sum(module.lines for module in held.values())} lines",
        f"import cycles when modules are loaded: {len(loaded)}",
        *(f"    {' '.join(group)}" for group in loaded),
        f"import cycles with what functions import: {len(called)}",
        *(f"    {' '.join(group)}" for group in called),
        f"getattr and hasattr: {sum(map(len, asked.values()))}, of them {sum(map(len, ours.values()))} of objects that may be ours",
        *(f"    {file}:{call}" for file, calls in sorted(ours.items()) for call in calls),
        f"Any: {sum(said.values())}",
        *(f"    {count:4} {file}" for file, count in said.most_common()),
        f"branches by kind of input above problems/: {sum(map(len, branches.values()))}",
        *(f"    {file}:{place}" for file, places in sorted(branches.items()) for place in places),
        f"branches by whether the problem is a function: {sum(map(len, functions.values()))}",
        *(f"    {file}:{place}" for file, places in sorted(functions.items()) for place in places),
        "largest files:",
        *(f"    {module.lines:5} {module.file}" for module in sizes[:25]),
    ]
    return "\n".join(told)


if __name__ == "__main__":
    print(report())
