"""What writes the lines of mentors that know nothing: each tells whether something simpler than knowledge would do.

A *writer* gives texts for one class, one behind the other, all told apart; how many of them are taken is said elsewhere, so that every
mentor of class lines fills as many. All are pure: what is random is drawn from the generator that is given.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat

from maao.class_lines import alike

Near = Callable[[str], Sequence[str]]  # words near to a word

ALPHA = 0.1  # of a text's words, the part that one edit changes: Wei and Zou's
TRIES = 8  # texts looked at for each that is wanted, before there are taken to be no more
MOST_REPEATED = 4  # near words in the place of one word of a name

# A class's name, as one would put it into a text of a few words; no two of them read alike.
WORDINGS = (
    "{class}",
    "this is about {class}",
    "a message about {class}",
    "the topic is {class}",
    "{class}, in short",
    "an example of {class}",
    "it concerns {class}",
    "something to do with {class}",
    "what this is about: {class}",
    "category: {class}",
    "a case of {class}",
    "this belongs to {class}",
    "a typical {class} text",
    "the subject here is {class}",
    "filed under {class}",
    "mainly {class}",
    "regarding {class}",
    "one more on {class}",
    "this falls under {class}",
    "of the kind {class}",
    "best described as {class}",
    "it has to do with {class}",
    "label: {class}",
    "this would count as {class}",
)


def told_apart(texts: Iterable[str], count: int, seen: set[str]) -> list[str]:
    """Return the first `count` texts that no one would take for an earlier one, nor for one that was `seen`; they are seen from now on.

    Only so many texts are looked at: a writer that repeats itself comes to an end.

    Args:
        seen: texts as `alike` gives them.

    Example:
        >>> told_apart(["A song.", "a  song.", "A match.", "News."], 2, set())
        ['A song.', 'A match.']
    """
    found = list[str]()
    for text in islice(texts, TRIES * max(1, count)):
        if len(found) == count:
            break
        key = alike(text)
        if key and key not in seen:
            seen.add(key)
            found.append(text)
    return found


def wordings(name: str) -> Iterator[str]:
    """Return a class's name in each of `WORDINGS`. Is it the number of examples made of nothing?

    Example:
        >>> list(wordings("lost card"))[:3]
        ['lost card', 'this is about lost card', 'a message about lost card']
    """
    return (wording.replace("{class}", name) for wording in WORDINGS)


def near_words(name: str, near: Near, draw: random.Random) -> Iterator[str]:
    """Return lines of words that are near to those of a class's name, one for each of its words; then of several. Would any near words do?

    Source: the vocabulary words nearest to a class, the usual reading of a soft prompt, as a control.

    Example:
        >>> lines = near_words("lost card", {"lost": ["missing", "gone"], "card": ["cards"]}.get, random.Random(0))
        >>> sorted(set(islice(lines, 10)))
        ['gone cards', 'missing cards']
    """
    pools = [own for word in name.split() if (own := [found for found in near(word) or () if found.strip()])]
    if not pools:
        return
    for number in range(1, MOST_REPEATED + 1):
        for _ in range(TRIES * number * max(map(len, pools))):
            yield " ".join(word for pool in pools for word in draw.sample(pool, min(number, len(pool))))


def random_words(name: str, words: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Return a class's name with two random words behind it, or as often with two random sequences of letters as long. Is it ensembling?

    Args:
        words: of a vocabulary, to draw from.

    Source: Roth et al., Waffling around for Performance: Visual Classification with Random Words and Broad Concepts, ICCV 2023.

    Example:
        >>> list(islice(random_words("lost card", ["music", "bank", "team"], random.Random(0)), 2))
        ['lost card, which has bank team.', 'lost card, which has qpmzj plsg.']
    """
    if not words:
        return
    for with_words in chain.from_iterable(repeat((True, False))):
        drawn = draw.sample(words, min(2, len(words)))
        ends = drawn if with_words else ["".join(draw.choice(string.ascii_lowercase) for _ in word) for word in drawn]
        yield f"{name}, which has {' '.join(ends)}."


# -- edits of real examples


def edits(texts: Sequence[str], near: Near, draw: random.Random) -> Iterator[str]:
    """Return edits of texts, turn by turn: two words swapped, one left out, one written once more, or one changed for a near word.

    Does the data say it already? An edit changes a tenth of the words, at least one. What is written once more is a word of the same
    text, where the paper writes a synonym: no dictionary is needed.

    Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks, EMNLP 2019.
    """
    turns = list(texts)
    if not turns:
        return
    draw.shuffle(turns)
    for text in chain.from_iterable(repeat(turns)):
        yield edited(text, near, draw)


def edited(text: str, near: Near, draw: random.Random) -> str:
    """Return one edit of a text, by an operation that is drawn.

    Example:
        >>> edited("where is my card", lambda word: ["cards"] if word == "card" else [], random.Random(3))
        'where my card'
    """
    words = text.split()
    if not words:
        return ""
    number = max(1, round(ALPHA * len(words)))
    return " ".join(draw.choice((_swapped, _shortened, _lengthened, _exchanged))(words, number, near, draw))


def _swapped(words: Sequence[str], number: int, near: Near, draw: random.Random) -> list[str]:
    found = list(words)
    for _ in range(number if len(found) > 1 else 0):
        i, j = draw.sample(range(len(found)), 2)
        found[i], found[j] = found[j], found[i]
    return found


def _shortened(words: Sequence[str], number: int, near: Near, draw: random.Random) -> list[str]:
    gone = set(draw.sample(range(len(words)), min(number, len(words) - 1)))
    return [word for i, word in enumerate(words) if i not in gone]


def _lengthened(words: Sequence[str], number: int, near: Near, draw: random.Random) -> list[str]:
    found = list(words)
    for _ in range(number):
        found.insert(draw.randrange(len(found) + 1), draw.choice(words))
    return found


def _exchanged(words: Sequence[str], number: int, near: Near, draw: random.Random) -> list[str]:
    found, places = list(words), list(range(len(words)))
    draw.shuffle(places)
    for place in places:
        if not number:
            break
        others = [other for other in near(words[place]) if other.strip()]
        if others:
            found[place] = draw.choice(others)
            number -= 1
    return found


# -- sentences of a corpus


def most_confident(probabilities: Iterable[Sequence[float]], count: int) -> list[list[int]]:
    """Return for each class the texts that are read as it, those read with most confidence first, at most `count`.

    Self-training's first round: what the frozen model is sure of becomes its example. Would that do?

    Args:
        probabilities: of each text, one for each class.

    Source: Scudder, Probability of Error of Some Adaptive Pattern-Recognition Machines, 1965; Xie et al., Self-training with Noisy
    Student, CVPR 2020, who take as many of each class, the most confident.

    Example:
        >>> most_confident([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.95, 0.05]], 2)
        [[3, 0], [2]]
    """
    read: list[tuple[int, float]] = []  # the class of each text, and its probability: of all classes they would be many
    classes = 0
    for row in probabilities:
        best = max(range(len(row)), key=row.__getitem__)
        read.append((best, row[best]))
        classes = len(row)
    found: list[list[int]] = [[] for _ in range(classes)]
    for text, (label, _) in sorted(enumerate(read), key=lambda one: -one[1][1]):
        if len(found[label]) < count:
            found[label].append(text)
    return found
