"""How a line of what a run came to is written for a person: scores, proposals, costs; shown, and not obeyed by the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from maao.core.lr_finder import Trial
from maao.llm.ledger import Totals
from maao.mentors.class_lines.base import lines_told
from maao.mentors.fields import line_of
from maao.printable import dollars, printable, printable_line, times
from maao.types import Cost, P, Proposal, Rejected, Score, readable

MOST_REFUSED, MOST_REASONS = 8, 3  # what was not used that is told one by one, and reasons of the rest


def shown(text: str, style: str = "") -> Text:
    """Return a line of text for a person to read; whatever came from outside is shown, and not obeyed by the terminal.

    Example:
        >>> shown("label \x1b[2J[red]").plain
        'label �[2J[red]'
    """
    return Text(printable(text.replace("\n", " ")), style=style)


def plain_table(title: str | Text = "") -> Table:
    """Return a table without lines around its cells, which fits narrow terminals; its title stands over it, to the left."""
    return Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def add_row(table: Table, *cells: str | Text, style: str | None = None) -> None:
    """Add a row of plain text: a proposal or a label may hold brackets, which are no markup."""
    table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), style=style)


def line_of_proposal(proposal: Proposal[P]) -> str:
    """Return a proposal in a line: its text and what it fills, class lines by their number."""
    return " | ".join(part for part in (line_of(proposal.text, proposal.fields), lines_told(proposal.fields)) if part)


def refusal(rejected: Rejected, unusable: str) -> str:
    """Return why there is no proposal: a call that was not made says so itself."""
    return {"unusable": f"not used: {unusable}", "failed_call": f"no reply: {rejected.reason}", "capped": rejected.reason}[rejected.kind]


def few_refused(rejected: Sequence[Rejected]) -> tuple[list[Rejected], str]:
    """Return what of a mentor's words is told one by one as not used, and in a line what else there was, by its reasons; "" for nothing.

    Example:
        >>> few_refused([Rejected(f"text {i}", "tried before") for i in range(30)])[1]
        'not used: 22 more (tried before, 22 times)'
    """
    told = [one for i, one in enumerate(rejected) if i < MOST_REFUSED or one.kind != "unusable" or len(rejected) <= MOST_REFUSED + 2]
    left = Counter(one.reason for one in rejected[MOST_REFUSED:] if one.kind == "unusable") if len(told) < len(rejected) else Counter()
    if not left:
        return told, ""
    reasons = "; ".join(f"{reason}, {times(count)}" for reason, count in left.most_common(MOST_REASONS))
    more = f"; {len(left) - MOST_REASONS} other reasons" if len(left) > MOST_REASONS else ""
    return told, f"not used: {left.total()} more ({reasons}{more})"


def refusals(rejected: Sequence[Rejected]) -> list[str]:
    """Return what of a mentor's words was not used, and why, a line each."""
    told, more = few_refused(rejected)
    return [*(refusal(one, f"{short(one.text)} ({one.reason})") for one in told), *([more] if more else [])]


def tried(trial: Trial) -> str:
    return f"diverged ({trial.diverged})" if trial.diverged is not None else f"loss {trial.loss:.3f}"


def unanswered_told(spent: Totals) -> str:
    """Return what calls without a reply may have taken."""
    return (
        f"Beside that, {spent.calls} call{'s' * (spent.calls != 1)} without a reply, counted for the caps: at most "
        f"{spent.input_tokens:,} tokens in, {spent.output_tokens:,} out" + (f", {dollars(spent.usd)}" if spent.usd else "") + "."
    )


def tokens_told(read: int, written: int, *, about: bool = False) -> str:
    """Return the tokens of calls; `about`: some are estimated.

    Example:
        >>> tokens_told(1229, 337), tokens_told(1229, 337, about=True)
        ('1,229 tokens in, 337 out', 'about 1,229 tokens in, about 337 out')
    """
    roughly = "about " if about else ""
    return f"{roughly}{read:,} tokens in, {roughly}{written:,} out"


def cost_told(cost: Cost, where: str = "on select", *, about: bool = False) -> str:
    """Return what something spent; `where` says by which examples it chose, `about` that tokens of the mentor are estimated."""
    money = f", {dollars(cost.usd)}" if cost.usd else ""
    tokens = f" ({tokens_told(cost.input_tokens, cost.output_tokens, about=about)}{money})"
    calls = f"{cost.llm_calls} mentor call{'s' * (cost.llm_calls != 1)}{tokens}" if cost.llm_calls else "no mentor call"
    return (
        f"Cost: {cost.gradient_steps} gradient steps, {cost.model_tokens:,} tokens through the frozen model, "
        f"{cost.selection_evals} evaluations {where}, {calls}, {cost.seconds:.0f} s."
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
