"""The errors a person sees: what went wrong, where, and how to put it right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VoltaError(Exception):
    """A failure that the user can act on.

    Args:
        what: what went wrong, one sentence.
        where: the file, key, scan or folder concerned.
        fix: what the user can do about it.

    Its text is one paragraph. The command line prints it and exits with ``exit_code``.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = "", fix: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.fix = fix
        super().__init__(self.paragraph())

    def paragraph(self) -> str:
        """The error as one paragraph without line breaks."""
        parts = [self.what.rstrip(".") + (f" ({self.where})." if self.where else ".")]
        if self.fix:
            ended = self.fix.endswith("?")
            parts.append(self.fix if ended else self.fix.rstrip(".") + ".")
        return " ".join(" ".join(parts).split())


class UsageError(VoltaError):
    """The command or configuration itself is wrong; exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is wrong."""


class CohortError(VoltaError):
    """A prepared cohort is missing, damaged or does not fit what is asked of it."""


class CheckpointError(VoltaError):
    """A checkpoint is missing, damaged or belongs to another configuration."""


class EncoderError(VoltaError):
    """An encoder folder is missing, damaged or contradicts the data."""


class Collapse(VoltaError):
    """Self-distillation collapsed and the guard stopped the run (METHOD section 10)."""


class Diverged(VoltaError):
    """A loss, gradient or weight became NaN or infinite."""


class OutOfMemory(VoltaError):
    """The machine's memory, or its GPU's, is not enough for what is asked."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A phrase that offers the valid names closest to ``name``, or lists them all."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "Valid names: " + ", ".join(sorted(names))
