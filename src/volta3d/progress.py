"""Progress a person can read: a bar on a terminal, else plain lines with rate and time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

QUIET_SECONDS = 2.0  # nothing is shown for what takes less
LINE_SECONDS = 15.0  # between plain lines


class Steps:
    """Shows how far a task of a known number of steps has come.

    Args:
        what: the task, e.g. "prepare".
        unit: of a step, e.g. "scans".
        console: where to write; standard error by default.

    Call the object with (done, total, text) as often as you like.
    """

    def __init__(self, what: str, unit: str, console: Console | None = None) -> None:
        self.what, self.unit = what, unit
        self.console = console or Console(stderr=True)
        self._started = time.monotonic()
        self._shown = self._started
        self._first: tuple[int, float] | None = None  # what was done when, when first told
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Report ``done`` of ``total`` steps."""
        now = time.monotonic()
        if self._first is None:
            # a resumed task doesn't start at 0, and what comes before a first step is not its pace
            self._first = done, now
        if now - self._started < QUIET_SECONDS:
            return
        if self.console.is_terminal:
            self._draw(done, total, text)
        elif now - self._shown >= LINE_SECONDS or done >= total:
            self._shown = now
            first, since = self._first
            self.console.print(
                self.line(done, total, text, done - first, now - since), highlight=False
            )

    def line(self, done: int, total: int, text: str, fresh: int, seconds: float) -> str:
        """One plain line: what is done, and its rate and the time left where a pace is known.

        Args:
            done, total: steps.
            text: what is added at the end.
            fresh: steps done in so many ``seconds``.
        """
        parts = [f"{self.what}: {done}/{total} {self.unit}"]
        if fresh > 0 and seconds > 0:
            rate = fresh / seconds
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            parts.append(f"{duration((total - done) / rate)} left")
        return ", ".join(parts) + (f"  {text}" if text else "")

    def _draw(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self._bar.add_task(self.what, total=total, text=text)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, text=text)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min, 2 h 10 min."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
