"""``python -m tests.kill 200 [SEED]``: so many kills, over all scenarios in turn; prints what was killed, and how many were survived.

What each trial is follows from the seed; when exactly a process dies follows from how fast the machine is, too.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import torch

# Whatever a run imports is imported before the forks, once. Nothing is computed here: no threads, no random state to share.
import transformers.models.bert.modeling_bert
import transformers.models.clip.modeling_clip
import transformers.models.llama.modeling_llama  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from maao.core.seeds import seed_for
from tests.kill.scenarios import make, scenarios
from tests.kill.server import provider
from tests.kill.trials import MODES, Trial, end, in_memory, start, trial, whole


def main(count: int, seed: int = 0, keep: Path | None = None) -> int:
    torch.set_num_threads(1)
    get_checkpoint_conversion_mapping("llama")  # hundreds of expressions, which every fork would compile
    began, found = time.monotonic(), list[Trial]()
    with in_memory() as place, provider(place) as served:
        if end(start(lambda: make(place), place / "log")):
            raise RuntimeError((place / "log").read_text()[-3000:])
        known = scenarios(place, served)
        wholes = {}
        for number in range(count):
            scenario = known[number % len(known)]
            if scenario.name not in wholes:
                wholes[scenario.name] = whole(scenario, place / f"whole-{number}")
                import_all(wholes[scenario.name].modules)
            one = trial(scenario, wholes[scenario.name], place / f"trial-{number}", served, seed_for(seed, "kill", number))
            found.append(one)
            told = f"NOT SURVIVED: {one.wrong}" if one.wrong else "survived"
            print(f"{number + 1:4d}  {scenario.name:24s} {one.at:24s} {told}", flush=True)
    return report(found, time.monotonic() - began)


def import_all(modules: list[str]) -> None:
    """Import what a fork had imported by its end, so that those to come need not."""
    for name in modules:
        if name not in sys.modules:
            with suppress(Exception):
                import_module(name)


def report(found: list[Trial], seconds: float) -> int:
    """Print the figures; return 1 where a kill was not survived, or too few of them met a call or a file."""
    survived = [one for one in found if not one.wrong]
    aimed = [one for one in found if one.at not in (MODES[0], "behind a call")]
    print()
    for name, tried in Counter(one.scenario for one in found).items():
        print(f"{name:24s} {sum(one.scenario == name for one in survived):4d} of {tried} survived")
    calls = sum(one.at == MODES[1] for one in aimed)
    print(f"{len(aimed)} of {len(found)} while a call was open ({calls}) or a file was being written ({len(aimed) - calls})")
    print(f"kills survived / tried: {len(survived)} / {len(found)}, in {seconds:.0f} s")
    return int(len(survived) < len(found) or 3 * len(aimed) < len(found))


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
