"""Histories written by hand: what was proposed, what it was worth, and where each leg ended."""

from __future__ import annotations

from types import SimpleNamespace

from maao.types import Advice, Clues, Confusion, Considered, Cost, Leg, Misclassified, Projection, Proposal, Round, Score, Token, Verdict


def score(loss, accuracy=None):
    return Score(loss, {} if accuracy is None else {"accuracy": accuracy}, 10)


def finished(index, text, loss, *, words=None, age=5, proposals=(), chosen=None, fields=None, **clues):
    """A round that ended at `loss` on the words `text`.

    Proposals are (text, loss, age when scored), perhaps with a weight; `fields` are theirs by place.
    """
    advice = Advice(tuple(Proposal(p[0], {}, "test", fields=(fields or {}).get(i, {})) for i, p in enumerate(proposals)))
    considered = tuple(Considered(i, score(p[1]), *p[2:]) for i, p in enumerate(proposals))
    state = SimpleNamespace(params={}, start={}, step=age, age=age)
    own = words if words is not None else loss + 1
    projection = None if text is None else Projection(text, score(own, 0.25), own - loss)
    told = Clues(projection=projection, **clues)
    leg = Leg(age, ask=bool(proposals), proposals=len(proposals) or 3)
    return Round(index, leg, advice, Verdict(state, chosen, considered), (), score(loss, 0.5), told, state, Cost())


def tokens(*slots):
    return tuple(tuple(Token(word, 0.5) for word in slot.split()) for slot in slots)


CLUES = {
    "nearest": tokens("news new", "music song", "a the"),
    "gradient": tokens("sport game", "team match", "win cup"),
    "displacement": tokens("topic label", "of in", "text movie"),
    "confusions": (Confusion("music", "sport", 4), Confusion("sport", "business", 1)),
    "misclassified": (Misclassified("star wins award", "music", "sport"),),
    "self_continuation": "is a list of news",
}
HISTORY = (
    finished(0, "the a of", 1.5, age=0),
    finished(1, "music news label", 0.75, words=1.25, age=20),
    finished(
        2, "news of sport", 0.5, words=1.0, age=10, proposals=(("topic of the news", 1.125, 0), ("sport or music", 0.875, 5)), chosen=1
    ),
)
TOLD = (*HISTORY[:-1], finished(2, "news of sport", 0.5, words=1.0, age=10, proposals=(("topic of the news", 1.125, 0),), **CLUES))
FILLED = {1: {"label_words.business": "money", "label_words.music": "sound", "label_words.sport": "games"}}
WITH_FIELDS = (
    *HISTORY[:2],
    finished(
        2,
        "news of sport",
        0.5,
        words=1.0,
        age=10,
        proposals=(("topic of it", 1.125, 0), ("topic of it", 0.875, 5)),
        chosen=1,
        fields=FILLED,
    ),
    finished(3, "news of music", 0.375, words=0.75, age=20),
)


def texts(found):
    return [entry.text for entry in found]


def ended(*losses):
    return tuple(finished(i, f"text {i}", loss) for i, loss in enumerate(losses))
