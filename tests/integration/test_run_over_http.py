"""The demo's job, shortened, with its mentor behind a real server over HTTP."""

from __future__ import annotations

import importlib.util

import pytest

import maao

pytestmark = [
    pytest.mark.server,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="no model server: make test-server installs llama-cpp-python"),
]

SHORT = ("plan.rounds=2", "plan.steps=2", "plan.store_every=0", "accept.steps=1", "data.shots=2", "data.test_size=20")


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_demo_runs_against_a_server_and_replays_without_it(server, style, tmp_path):
    chat = ("mentor.chat.provider=openai", "mentor.chat.name=smollm2", f"mentor.chat.base_url={server.base_url}", "mentor.chat.timeout=120")
    config = maao.read_config("demo-decoder", (*SHORT, *chat, f"mentor.style={style}"))
    result = maao.run(config, tmp_path / "run")
    advice = [r.advice for r in result.history if r.leg.ask]
    assert len(advice) == 2
    said = [p.text for a in advice for p in a.proposals] + [r.reason for a in advice for r in a.rejected]
    assert said and not any("no reply" in text for text in said)
    assert result.cost.llm_calls == sum(a.cost.llm_calls for a in advice) >= 2
    assert result.cost.output_tokens > 0
    assert set(result.finals) == {"untuned", "chosen", "words"}
    replayed = maao.replay(tmp_path / "run")
    assert replayed.equal and replayed.llm_calls == 0
