"""A comparison on a Ray cluster of two nodes with a worker each: killed on its way, begun again, and equal to one without Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.checks.record import ROOT, Record

TABLE = """
title = "Small"
about = "A table for a cluster."
seeds = [0, 1, 2]
baseline = "none"

[base]
"model.kind" = "matcher"
"model.method" = "coop"
"model.initial" = "vocabulary"
"data.shots" = 4
"data.select_shots" = 4
"data.test_size" = 100
"plan.rounds" = 2
"plan.steps" = 5
"mentor.name" = "none"

[tasks.headlines]
"data.source" = "packaged:bbc-headlines"

[[arms]]
name = "none"

[[arms]]
name = "restart"
settings = { "mentor.name" = "random_restart" }
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record("ray", __doc__ or "", {folder: "TMP"})
        record.versions(Path(sys.executable))
        (folder / "table.toml").write_text(TABLE, encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "100", "RAY_ADDRESS": address}
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1", "--disable-usage-stats"]
        head = [*start, "--head", "--port", address.split(":")[1], "--include-dashboard", "false"]
        compare = [sys.executable, "-m", "maao.cli", "compare", folder / "table.toml", "--workers", "2"]
        nodes = [started(head, variables)]
        try:
            wait_for(address)
            nodes.append(started([*start, "--address", address], variables))
            record.note("", "$ two nodes of one processor each: ray start --head --num-cpus 1, ray start --address HEAD --num-cpus 1")
            record.note("", *kill_on_the_way([*compare, "--out", folder / "ray", "--ray"], folder / "ray", variables))
            before = rows(folder / "ray")
            record.run([*compare, "--out", folder / "ray", "--ray"], last=30, **variables)
            after = rows(folder / "ray")
            assert len(after) == 6 and all(after[name] == held for name, held in before.items()), (before.keys(), after.keys())
            record.note(f"all 6 rows are there; the {len(before)} from before the kill are the same files")
        finally:
            for node in reversed(nodes):
                end(node)
        record.run([*compare, "--out", folder / "alone"], last=3, **variables)
        alone = {name: json.loads(text) for name, (_, text) in rows(folder / "alone").items()}
        for name, (_, text) in after.items():
            row = json.loads(text)
            assert all(row[key] == alone[name][key] for key in ("test", "select") if key in row), name
        record.note("without Ray the rows say the same of test and select")
        record.end()


def kill_on_the_way(command: Sequence[str | Path], place: Path, variables: Mapping[str, str]) -> list[str]:
    """Kill a comparison once it has a row; return what was done."""
    began = time.monotonic()
    process = started(command, variables)
    while process.poll() is None and not rows(place) and time.monotonic() - began < 400:
        time.sleep(0.2)
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # Ray ends the tasks of a driver that is gone
    held = len(rows(place))
    assert 0 < held < 6, held
    return [
        "$ the same command as below, killed by SIGKILL when the first row was there",
        f"[{time.monotonic() - began:.0f} s; {held} of 6 rows]",
    ]


def started(command: Sequence[str | Path], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process with a group of its own, in silence."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [str(part) for part in command], env={**os.environ, **variables}, stdout=quiet, stderr=quiet, start_new_session=True
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str) -> None:
    """Wait until something listens there."""
    host, port = address.split(":")
    for _ in range(600):
        with socket.socket() as one:
            if one.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    sys.exit("the head of the cluster did not start")


def rows(place: Path) -> dict[str, tuple[int, str]]:
    """Return the rows of a comparison: when each was written, and what it says."""
    return {file.name: (file.stat().st_mtime_ns, file.read_text(encoding="utf-8")) for file in (place / "rows").glob("*.json")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
