"""Check a finished demo run: the mentor was really asked, read, scored and judged, and tuning beat both baselines on test."""

import sys

import maao

result = maao.load(sys.argv[1])
asked = [r for r in result.history if r.leg.ask]
scored = [c for r in asked for c in r.verdict.considered if c.proposal is not None]
chosen, untuned = (result.finals[name].score.accuracy for name in ("chosen", "untuned"))
majority = result.environment["majority"]
assert result.status == "finished", result.status
assert result.cost.llm_calls > 0 and scored, "no proposal of the mentor was scored"
assert all(r.verdict.reason for r in asked), "a verdict without a reason"
assert result.finals["chosen"].score.num_examples == 500
assert chosen > majority and chosen > untuned, (chosen, majority, untuned)
replayed = maao.replay(sys.argv[1])
assert replayed.equal and replayed.llm_calls == 0, replayed
print(f"demo: accuracy {chosen:.3f}, untuned {untuned:.3f}, majority {majority:.3f}; {len(scored)} proposals scored; replay equal, 0 calls")
