"""How a line of what a run came to is written for a person: scores, proposals, costs; shown, and not obeyed by the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from maao.core.lr_finder import Trial
from maao.mentors.fields import line_of
from maao.printable import printable, printable_line
from maao.types import Cost, P, Proposal, Rejected, Score, readable


def shown(text: str, style: str = "") -> Text:
    """Return a line of text for a person to read; whatever came from outside is shown, and not obeyed by the terminal.

    Example:
        >>> shown("label \x1b[2J[red]").plain
        'label �[2J[red]'
    """
    return Text(printable(text.replace("\n", " ")), style=style)


def add_row(table: Table, *cells: str | Text, style: str | None = None) -> None:
    """Add a row of plain text: a proposal or a label may hold brackets, which are no markup."""
    table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), style=style)


def line_of_proposal(proposal: Proposal[P]) -> str:
    return line_of(proposal.text, proposal.fields)


def refusal(rejected: Rejected, unusable: str) -> str:
    """Return why there is no proposal: a call that was not made says so itself."""
    return {"unusable": f"not used: {unusable}", "failed_call": f"no reply: {rejected.reason}", "capped": rejected.reason}[rejected.kind]


def tried(trial: Trial) -> str:
    return f"diverged ({trial.diverged})" if trial.diverged is not None else f"loss {trial.loss:.3f}"


def cost_line(cost: Cost, where: str = "on select") -> Text:
    """Return what something spent, in a line; `where` says by which examples it chose."""
    money = f", ${cost.usd:.4f}" if cost.usd else ""
    return shown(
        f"Cost: {cost.gradient_steps} gradient steps, {cost.model_tokens:,} tokens through the frozen model, "
        f"{cost.selection_evals} evaluations {where}, "
        f"{cost.llm_calls} mentor calls ({cost.input_tokens:,} tokens in, {cost.output_tokens:,} out{money}), {cost.seconds:.0f} s"
    )


def columns(score: Score | None) -> tuple[str, str]:
    if score is None or score.is_unjudged:
        return "", ""
    return f"{score.loss:.3f}", "" if score.primary is None else f"{score.primary[1]:.3f}"


def score_line(score: Score) -> str:
    return f"loss {score.loss:.3f}" + ("" if score.primary is None else f", {readable(score.primary[0])} {score.primary[1]:.3f}")


def metric_name(score: Score) -> str:
    """Return how the primary metric is called over a column; accuracy where there is none, as of a function."""
    return "accuracy" if score.primary is None else printable_line(readable(score.primary[0]))


def short(text: str, length: int = 80) -> str:
    line = printable_line(text)
    return line if len(line) <= length else line[: length - 1] + "…"
