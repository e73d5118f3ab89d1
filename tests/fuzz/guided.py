"""``python -m tests.fuzz.guided NAME [-max_total_time=60 ...]``: the same inputs, led by what they reach in the source (atheris).

It needs the extra `fuzz` (Linux, Python 3.11 to 3.13) and ends at the first escape. What follows the name are libFuzzer's own options.
"""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, given, settings


def main() -> None:
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["maao"]):
        from tests.fuzz import running, targets

        target = targets.target(name)
        for _, make in target.growing.items():  # what is imported where it is first needed is led by, too
            running.tried(target, make(8))

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def check(one: object) -> None:
        escape = running.tried(target, one)
        assert escape is None, f"{escape.told}\n{escape.input}"

    atheris.Setup([sys.argv[0], *options], check.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
    atheris.Fuzz()


if __name__ == "__main__":
    main()
