"""Read a PEFT prompt-learning adapter as a starting point."""

from __future__ import annotations
