"""A short form of ``make test-kill``, in a process that ran nothing before; and what the driver is there to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maao.store.files import write_durably
from tests.kill import trials
from tests.kill.__main__ import report
from tests.kill.scenarios import Act, Scenario, Seen
from tests.kill.server import Provider
from tests.kill.trials import Trial, trial, whole

pytestmark = pytest.mark.trust

ROOT = Path(__file__).parents[2]
REPLIES = [f"reply {number}" for number in range(6)]


def test_whatever_is_killed_goes_on_to_the_same_end() -> None:
    command = [sys.executable, "-m", "tests.kill", "12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "kills survived / tried: 12 / 12" in done.stdout


# -- what is not survived is found out: a stand-in asks for six replies, and keeps them in a file


def asking(served: Path, *, forgets: bool = False, loses: bool = False) -> Act:
    """Return what asks for all replies that are not kept; or for all again, or without the first that is kept."""

    def act(folder: Path) -> None:
        file = folder / "kept.json"
        kept = json.loads(file.read_text()) if file.exists() else []
        if kept and loses:
            kept = kept[1:]
        for reply in REPLIES if forgets else [one for one in REPLIES if one not in kept]:
            with served.open("a") as asked:
                asked.write(json.dumps(reply) + "\n")
            if reply not in kept:
                kept.append(reply)
                write_durably(file, json.dumps(kept).encode())

    return act


def look(folder: Path) -> Seen:
    file = folder / "kept.json"
    kept = json.loads(file.read_text()) if file.exists() else []
    return Seen(replies={"run": kept}) if kept else Seen()


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Return the function that makes trials, and gives what was wrong with them."""
    monkeypatch.setattr(trials, "look", look)
    served = tmp_path / "served"

    def make(**how: bool) -> list[str]:
        provider = Provider("", served)
        expected = whole(Scenario("stand-in", asking(served), calls=False), tmp_path / "whole")
        assert expected.seen.replies == {"run": REPLIES} and expected.events == 6 * 5  # half, fsync and replace, before and behind
        scenario = Scenario("stand-in", asking(served, **how), calls=False)
        return [trial(scenario, expected, tmp_path / str(seed), provider, seed).wrong for seed in range(8)]

    return make


def test_a_stand_in_that_keeps_what_it_was_told_survives(tried) -> None:  # type: ignore[no-untyped-def]
    assert tried() == [""] * 8


def test_a_call_that_is_repeated_is_found_out(tried) -> None:  # type: ignore[no-untyped-def]
    wrong = tried(forgets=True)
    assert any("recorded calls were repeated" in one for one in wrong)
    assert {one[2:] for one in wrong if one} <= {"recorded calls were repeated"}


def test_another_end_is_found_out(tried) -> None:  # type: ignore[no-untyped-def]
    assert any(one.startswith("another end: replies") for one in tried(loses=True))


def test_a_doubled_reply_and_a_changed_row_are_no_part_of_the_whole() -> None:
    held = Seen(rounds={"run": ["a", "b"]}, replies={"run": ["x", "y"]}, rows={"cell": "1"})
    assert Seen(rounds={"run": ["a"]}, replies={"run": ["y"]}).is_part_of(held) and Seen().is_part_of(held)
    for part in (Seen(rounds={"run": ["b"]}), Seen(replies={"run": ["x", "x"]}), Seen(replies={"run": ["z"]}), Seen(rows={"cell": "2"})):
        assert not part.is_part_of(held)


def test_too_few_kills_in_the_midst_of_something_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    calm = [Trial("head", "any moment"), Trial("head", "behind a call"), Trial("head", "any moment")]
    assert report(calm, 1.0) == 1 and report([*calm[:2], Trial("head", "COMMIT")], 1.0) == 0
    assert report([Trial("head", "COMMIT", "another end")], 1.0) == 1
    assert "kills survived / tried: 0 / 1" in capsys.readouterr().out
