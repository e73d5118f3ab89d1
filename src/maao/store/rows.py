"""A round as table rows, and back. What is a tensor goes through two functions that the caller gives; nothing here touches a file."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple

from maao.store.values import (
    Column,
    column_json,
    column_number,
    column_text,
    json_column,
    number_column,
    optional_text,
    text_column,
)
from maao.types import Advice, Clues, Considered, Cost, Leg, Observation, P, Proposal, Rejected, Round, S, Score, Verdict

Row = tuple[str, Mapping[str, Column]]  # a table, and its columns by name
PARTS = ("observations", "proposals", "rejected", "considered")


class StoredState(NamedTuple):
    """A stage's state as two columns: the name of its tensors' file, and the rest."""

    tensors: str
    meta: Any


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
                "verdict_tensors": before.tensors, "verdict_meta": json_column(before.meta, Any),
                "state_tensors": after.tensors, "state_meta": json_column(after.meta, Any),
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
        add("proposals", i, text=words, source=source, note=note, fields=filled, params_tensors=place)
    for i, r in enumerate(advice.rejected):
        add("rejected", i, text=text_column(r.text), reason=text_column(r.reason))
    for i, c in enumerate(verdict.considered):
        add("considered", i, proposal=c.proposal, age=c.age, weight=number_column(c.weight), **score_columns(c.score))
    return rows


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for table, columns in rows:
        names = ", ".join(columns)
        places = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(columns.values()))


def read(connection: sqlite3.Connection) -> tuple[list[sqlite3.Row], dict[str, dict[int, list[sqlite3.Row]]]]:
    """Return the rows of all rounds, and the rows of their parts by table and round."""
    rounds = connection.execute("SELECT * FROM rounds ORDER BY round").fetchall()
    parts: dict[str, dict[int, list[sqlite3.Row]]] = {}
    for table in PARTS:
        parts[table] = defaultdict(list)
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY round, position"):
            parts[table][row["round"]].append(row)
    return rounds, parts


def restore(row: sqlite3.Row, parts: Mapping[str, Mapping[int, list[sqlite3.Row]]], tensors: Tensors[P, S]) -> Round[P, S]:
    """Return the round that these rows were made of."""
    index: int = row["round"]
    observations, proposals, rejected, considered = (parts[table].get(index, []) for table in PARTS)
    return Round(
        index=index,
        leg=column_json(row["leg"], Leg),
        advice=Advice(
            proposals=tuple(_proposal(p, tensors) for p in proposals),
            rejected=tuple(Rejected(column_text(r["text"]), column_text(r["reason"])) for r in rejected),
            cost=column_json(row["advice_cost"], Cost),
        ),
        verdict=Verdict(
            state=tensors.get_state(StoredState(row["verdict_tensors"], column_json(row["verdict_meta"], Any))),
            chosen=row["chosen"],
            considered=tuple(_considered(c) for c in considered),
            reason=column_text(row["reason"]),
            cost=column_json(row["verdict_cost"], Cost),
        ),
        observations=tuple(_observation(o, tensors) for o in observations),
        score=column_json(row["score"], Score),
        clues=column_json(row["clues"], Clues),
        state=tensors.get_state(StoredState(row["state_tensors"], column_json(row["state_meta"], Any))),
        cost=column_json(row["cost"], Cost),
    )


def score_columns(score: Score) -> dict[str, Column]:
    """Return a score whole, and beside it the two numbers that people look for."""
    return {"score": json_column(score, Score), "loss": number_column(score.loss), "accuracy": number_column(score.accuracy)}


def _observation(row: sqlite3.Row, tensors: Tensors[P, S]) -> Observation[P]:
    name = row["params_tensors"]
    params = None if name is None else tensors.get_params(name)
    return Observation(row["step"], column_number(row["loss"]), params, optional_text(row["note"]), column_json(row["cost"], Cost))


def _considered(row: sqlite3.Row) -> Considered:
    return Considered(row["proposal"], column_json(row["score"], Score), row["age"], column_number(row["weight"]))


def _proposal(row: sqlite3.Row, tensors: Tensors[P, S]) -> Proposal[P]:
    return Proposal(
        text=column_text(row["text"]),
        params=tensors.get_params(row["params_tensors"]),
        source=column_text(row["source"]),
        note=optional_text(row["note"]),
        fields=column_json(row["fields"], Mapping[str, str]),  # type: ignore[type-abstract]
    )
