"""From a mentor's section, or a mentor of the caller's own, to the mentor that a run asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maao.choices import CHOICES
from maao.errors import ConfigError
from maao.llm.recording import Recording
from maao.mentors.context import AskingOptions, MentorContext, MentorOptions
from maao.mentors.mix import Mix
from maao.options import Chosen
from maao.protocols import Mentor, Params

# a mentor of one's own, or what makes one from what it may use of a run
OwnMentor = Mentor[Params] | Callable[[MentorContext], Mentor[Params]]
FROM_THE_RECORD = "Mentor: replies come from the record. No model is asked, nothing is sent anywhere."


@dataclass(frozen=True)
class BuiltMentor:
    """A mentor with the chat models behind it; `is_known`: it is maao's own, so that it asks no other."""

    mentor: Mentor[Params]
    models: Recording
    disclosure: str = ""
    is_known: bool = True

    @property
    def live_calls(self) -> int | None:
        """How many calls were really made; None where the mentor has had no model recorded, and what it asks is its own affair."""
        made = self.models.live_calls
        return 0 if made is None and self.is_known else made


def build_chosen(chosen: Chosen[MentorOptions], run: MentorContext, models: Recording) -> BuiltMentor:
    """Build the mentor of a section, with a second one where it names one."""
    name, options = chosen.name, chosen.options
    if not models.is_replay:
        options.check_sending(run.tuned)
    mentor = options.build(run)
    if isinstance(options, AskingOptions) and options.mix is not None:
        mentor = Mix(mentor, options.mix.options.build(run), options.mix_share, (name, options.mix.name))
    told = FROM_THE_RECORD if models.is_replay and options.asks else options.disclosure(run) + _beside(options)
    return BuiltMentor(mentor, models, told or f"Restarts come from the plugin '{name}'.", name in CHOICES["mentor"])


def _beside(options: MentorOptions) -> str:
    """Say that a second mentor's proposals are sent too."""
    if not isinstance(options, AskingOptions) or options.mix is None:
        return ""
    repeats = ", which can repeat training text," if options.mix.options.repeats_examples else ""
    return f" What the second mentor ('{options.mix.name}') proposes{repeats} is shown to it too."


def build_own(own: OwnMentor, run: MentorContext, models: Recording) -> BuiltMentor:
    """Take or make a mentor of the caller's own. Raises `ConfigError` for what is none."""
    made: object = own(run) if callable(own) and (isinstance(own, type) or not isinstance(own, Mentor)) else own
    if not isinstance(made, Mentor):
        raise ConfigError(
            "A mentor of your own is an object with a method `propose`, or a function that makes one from what it may use of the run; got "
            f"{made!r}."
        )
    return BuiltMentor(made, models, is_known=False)
