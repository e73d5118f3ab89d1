"""A round as table rows, and back. What is a tensor goes through two functions that the caller gives; nothing here touches a file."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, NamedTuple

from maao.store.values import (
    Column,
    column_int,
    column_json,
    column_number,
    column_text,
    decode,
    json_column,
    number_column,
    optional_text,
    text_column,
)
from maao.types import JSON, Advice, Clues, Considered, Cost, Leg, Observation, P, Proposal, Rejected, Rejection, Round, S, Score, Verdict

Row = tuple[str, Mapping[str, Column]]  # a table, and its columns by name
PARTS = ("observations", "proposals", "rejected", "considered")
Parts = Mapping[str, Mapping[int, list[sqlite3.Row]]]  # the rows of rounds' parts, by table and round


class StoredState(NamedTuple):
    """A stage's state as two columns: the name of its tensors' file, and the rest."""

    tensors: str
    meta: JSON


class Tensors(NamedTuple, Generic[P, S]):
    """How params and states become columns, and how columns become them."""

    put_params: Callable[[P], str]
    get_params: Callable[[str], P]
    put_state: Callable[[S], StoredState]
    get_state: Callable[[StoredState], S]


def rows_of(round: Round[P, S], tensors: Tensors[P, S], *, date: str) -> list[Row]:
    """Return all rows of a round, its own first. This writes the tensors."""
    advice, verdict = round.advice, round.verdict
    before, after = tensors.put_state(verdict.state), tensors.put_state(round.state)
    rows: list[Row] = [
        (
            "rounds",
            {
                "round": round.index, "date": date, "steps": round.leg.steps, "asked": round.leg.ask, "step": round.state.step,
                **score_columns(round.score),
                "chosen": verdict.chosen, "reason": text_column(verdict.reason),
                "leg": json_column(round.leg, Leg), "clues": json_column(round.clues, Clues),
                "cost": json_column(round.cost, Cost), "advice_cost": json_column(advice.cost, Cost),
                "verdict_cost": json_column(verdict.cost, Cost),
                "verdict_tensors": before.tensors, "verdict_meta": json_column(before.meta, JSON),
                "state_tensors": after.tensors, "state_meta": json_column(after.meta, JSON),
            },
        )
    ]  # fmt: skip

    def add(table: str, position: int, **columns: Column) -> None:
        rows.append((table, {"round": round.index, "position": position, **columns}))

    for i, o in enumerate(round.observations):
        kept = None if o.params is None else tensors.put_params(o.params)
        cost = json_column(o.cost, Cost)
        add("observations", i, step=o.step, loss=number_column(o.loss), note=text_column(o.note), params_tensors=kept, cost=cost)
    for i, p in enumerate(advice.proposals):
        filled = json_column(p.fields, Mapping[str, str])
        place = tensors.put_params(p.params)
        words, source, note = text_column(p.text), text_column(p.source), text_column(p.note)
        who = {"mentor": text_column(p.mentor), "replaces": p.replaces}
        add("proposals", i, text=words, source=source, note=note, fields=filled, params_tensors=place, **who)
    for i, r in enumerate(advice.rejected):
        add("rejected", i, text=text_column(r.text), reason=text_column(r.reason), kind=r.kind)
    for i, c in enumerate(verdict.considered):
        point = None if c.params is None else tensors.put_params(c.params)
        add("considered", i, proposal=c.proposal, age=c.age, weight=number_column(c.weight), params_tensors=point, **score_columns(c.score))
    return [("rounds", {**rows[0][1], CHECKSUM: _checksum(rows)}), *rows[1:]]


CHECKSUM = "checksum"
CHECKED = {  # what a checksum is of; a column that a later schema adds is in none, or old checksums would no longer hold
    "rounds": (
        "round", "date", "steps", "asked", "step", "loss", "accuracy", "chosen", "reason", "leg", "score", "clues", "cost", "advice_cost",
        "verdict_cost", "verdict_tensors", "verdict_meta", "state_tensors", "state_meta",
    ),
    "observations": ("round", "position", "step", "loss", "note", "params_tensors", "cost"),
    "proposals": ("round", "position", "text", "source", "note", "fields", "params_tensors"),
    "rejected": ("round", "position", "text", "reason"),
    "considered": ("round", "position", "proposal", "loss", "accuracy", "age", "weight", "score"),
}  # fmt: skip


def _checksum(rows: Iterable[Row]) -> str:
    """Return a hash of a round's rows as SQLite holds them. Tensors are in it by their names, which are hashes themselves."""
    content = hashlib.sha256()
    for table, columns in rows:
        held = [int(value) if isinstance(value := columns[name], bool) else value for name in CHECKED[table]]
        content.update(repr((table, held)).encode("utf-8", "surrogatepass"))
    return content.hexdigest()


def check_whole(rounds: list[sqlite3.Row], parts: Parts, first: int = 0) -> None:
    """Raise `ValueError` where rounds from `first` on, or rows of their parts, are gone or are not as they were stored."""
    for index, row in enumerate(rounds, start=first):
        if row["round"] != index:
            raise ValueError(f"round {index} is gone")
        held: list[Row] = [(PARTS[i], dict(part)) for i in range(len(PARTS)) for part in parts[PARTS[i]].get(index, [])]
        if row[CHECKSUM] is not None and row[CHECKSUM] != _checksum([("rounds", dict(row)), *held]):
            raise ValueError(f"round {index} is not as it was stored")
    orphans = [index for table in PARTS for index in parts[table] if index not in range(first, first + len(rounds))]
    if orphans:
        raise ValueError(f"it holds parts of round {min(orphans)}, and the round itself is gone")


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for table, columns in rows:
        names = ", ".join(columns)
        places = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(columns.values()))


def read(connection: sqlite3.Connection, only: int | None = None) -> tuple[list[sqlite3.Row], Parts]:
    """Return the rows of all rounds, or of one alone, and the rows of their parts."""
    where, which = ("", ()) if only is None else (" WHERE round = ?", (only,))
    rounds = connection.execute(f"SELECT * FROM rounds{where} ORDER BY round", which).fetchall()
    parts: dict[str, dict[int, list[sqlite3.Row]]] = {}
    for table in PARTS:
        parts[table] = defaultdict(list)
        for row in connection.execute(f"SELECT * FROM {table}{where} ORDER BY round, position", which):
            parts[table][row["round"]].append(row)
    return rounds, parts


def restore(row: sqlite3.Row, parts: Parts, tensors: Tensors[P, S]) -> Round[P, S]:
    """Return the round that these rows were made of."""
    index: int = row["round"]
    observations, proposals, rejected, considered = (parts[table].get(index, []) for table in PARTS)
    return Round(
        index=index,
        leg=column_json(row["leg"], Leg),
        advice=Advice(
            proposals=tuple(_proposal(p, tensors) for p in proposals),
            rejected=tuple(map(_rejected, rejected)),
            cost=column_json(row["advice_cost"], Cost),
        ),
        verdict=Verdict(
            state=tensors.get_state(StoredState(row["verdict_tensors"], column_json(row["verdict_meta"], JSON))),
            chosen=_optional_int(row["chosen"]),
            considered=tuple(_considered(c, tensors) for c in considered),
            reason=column_text(row["reason"]),
            cost=column_json(row["verdict_cost"], Cost),
        ),
        observations=tuple(_observation(o, tensors) for o in observations),
        score=column_json(row["score"], Score),
        clues=column_json(row["clues"], Clues),
        state=tensors.get_state(StoredState(row["state_tensors"], column_json(row["state_meta"], JSON))),
        cost=column_json(row["cost"], Cost),
    )


def score_columns(score: Score) -> dict[str, Column]:
    """Return a score whole, and beside it the two numbers that people look for."""
    return {"score": json_column(score, Score), "loss": number_column(score.loss), "accuracy": number_column(score.accuracy)}


def _observation(row: sqlite3.Row, tensors: Tensors[P, S]) -> Observation[P]:
    name = row["params_tensors"]
    params = None if name is None else tensors.get_params(name)
    return Observation(
        column_int(row["step"]), column_number(row["loss"]), params, optional_text(row["note"]), column_json(row["cost"], Cost)
    )


def _considered(row: sqlite3.Row, tensors: Tensors[P, S]) -> Considered[P]:
    proposal, age, name = _optional_int(row["proposal"]), column_int(row["age"]), row["params_tensors"]
    point = None if name is None else tensors.get_params(name)
    return Considered(proposal, column_json(row["score"], Score), age, column_number(row["weight"]), point)


def _optional_int(column: object) -> int | None:
    return None if column is None else column_int(column)


NO_REPLY = "no reply: "  # began the reason of a call that failed, before its kind was stored
NOT_MADE = "Call not made: "  # and began, behind that, the reason of one that a cap did not allow


def _rejected(row: sqlite3.Row) -> Rejected:
    text, reason = column_text(row["text"]), column_text(row["reason"])
    if row["kind"] is not None:
        return Rejected(text, reason, decode(row["kind"], Rejection))
    if not reason.startswith(NO_REPLY):
        return Rejected(text, reason)
    reason = reason.removeprefix(NO_REPLY)
    return Rejected(text, reason, "capped" if reason.startswith(NOT_MADE) else "failed_call")


def _proposal(row: sqlite3.Row, tensors: Tensors[P, S]) -> Proposal[P]:
    return Proposal(
        text=column_text(row["text"]),
        params=tensors.get_params(row["params_tensors"]),
        source=column_text(row["source"]),
        note=optional_text(row["note"]),
        fields=column_json(row["fields"], Mapping[str, str]),  # type: ignore[type-abstract]
        mentor=column_text(row["mentor"]),
        replaces=_optional_int(row["replaces"]),
    )
