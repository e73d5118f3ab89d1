"""Check finished demo runs, whose folders are given: the job, and with a mentor that was asked, the decoder's."""

import sys

import maao

PROBE = 0.744  # accuracy of logistic regression with the names of the intents on the job's seed 0: experiments/results/demo


def check_job(result: maao.Result) -> str:
    chosen, began = (result.finals[name].score for name in ("chosen", "untuned"))
    assert chosen.num_examples == 1000 and len(result.environment["labels"]) == 77
    assert result.config.data.options.select == "cross_validation" and result.config.data.options.shots == 2
    assert chosen.loss < began.loss, (chosen.loss, began.loss)
    assert chosen.accuracy > PROBE + 0.02, chosen.accuracy
    assert any("may know this public data set" in note for note in result.environment["notes"]), "who wrote the lines is not said"
    return f"accuracy {chosen.accuracy:.3f}, logistic regression {PROBE:.3f}"


def check_decoder(result: maao.Result) -> str:
    """The mentor was really asked, read, scored and judged, and tuning beat both baselines on test."""
    asked = [r for r in result.history if r.leg.ask]
    scored = [c for r in asked for c in r.verdict.considered if c.proposal is not None]
    chosen, untuned = (result.finals[name].score.accuracy for name in ("chosen", "untuned"))
    majority = result.environment["majority"]
    assert result.cost.llm_calls > 0 and scored, "no proposal of the mentor was scored"
    assert all(r.verdict.reason for r in asked), "a verdict without a reason"
    assert result.finals["chosen"].score.num_examples == 500
    assert chosen > majority and chosen > untuned, (chosen, majority, untuned)
    return f"accuracy {chosen:.3f}, untuned {untuned:.3f}, majority {majority:.3f}; {len(scored)} proposals scored"


for folder in sys.argv[1:]:
    result = maao.load(folder)
    assert result.status == "finished", result.status
    told = check_job(result) if result.config.mentor.name == "none" else check_decoder(result)
    replayed = maao.replay(folder)
    assert replayed.equal and replayed.llm_calls == 0, replayed
    print(f"{folder}: {told}; replay equal, 0 calls")
