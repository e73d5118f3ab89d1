"""What a model's own chat template makes of a user turn, as a text that is rendered once.

A chat template is a program: it may print today's date, draw at random, or refuse. So a run keeps the text that it rendered to, and reads
every template in it, on every day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maao.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TURN = "{turn}"  # where the template stands in the text
TRIMMED = "{turn|trim}"  # the same, for a chat template that takes the white space around a turn's text away


def render_turn(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """Return a user turn of the model's chat template, up to where the assistant begins to speak, with ``{turn}`` for `template`.

    Raises:
        ModelError: there is no chat template, it refuses, or it changes the text of a turn.
    """
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer has no chat template: set `model.chat = false`, or use an instruct model.")
    core = template.strip()
    spaced = f"\t \t{core}\t \t"  # which no header ends with: so it shows whether white space is taken away
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": spaced}], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a program of the model's author: it may raise anything
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The model's chat template cannot render a user turn: {said.rstrip('.')}. Set `model.chat = false`, or write the turn's text "
            "yourself in `model.chat_turn`, with {turn} where the template stands."
        ) from error
    for written, mark in ((spaced, TURN), (core, TRIMMED)):
        if text.count(written) == 1:
            return str(text.replace(written, mark))
    raise ModelError(
        f"The model's chat template changes the text of a turn: {core!r} was not found exactly once in what it rendered, {text[:200]!r}. "
        "Set `model.chat = false`, or write the turn's text yourself in `model.chat_turn`, with {turn} where the template stands."
    )


def in_turn(turn: str, template: str) -> str:
    """Return a template inside a rendered turn.

    Raises:
        ConfigError: the turn has no place for it, or several.

    Example:
        >>> in_turn("User: {turn}\\nAssistant:", "{text} {slots} Topic?")
        'User: {text} {slots} Topic?\\nAssistant:'
    """
    if turn.count(TURN) + turn.count(TRIMMED) != 1:
        raise ConfigError(f"model.chat_turn needs {TURN} exactly once, where the template stands; it is {turn!r}.")
    if "{slots}" in turn:
        raise ConfigError(f"model.chat_turn holds {{slots}}, which stands in the template: leave it out. It is {turn!r}.")
    mark, inside = (TRIMMED, template.strip()) if TRIMMED in turn else (TURN, template)
    return turn.replace(mark, inside)  # once: a template may have a field of that name
