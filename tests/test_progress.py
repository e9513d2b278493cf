"""Progress as plain lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from volta3d import progress
from volta3d.progress import Steps, duration


def test_the_time_before_the_first_step_and_steps_of_an_earlier_run_are_not_the_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = 1000.0, io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Steps("pretrain", "steps", Console(file=told, width=200)) as steps:
        for done, at in ((101, 1090.0), (111, 1110.0), (112, 1111.0), (200, 1288.0)):
            now = at
            steps(done, 200, "loss 1")
    assert told.getvalue().splitlines() == [
        "pretrain: 101/200 steps  loss 1",
        "pretrain: 111/200 steps, 2.0 s each, 2 min left  loss 1",
        "pretrain: 200/200 steps, 2.0 s each, 0 s left  loss 1",
    ]


def test_what_is_over_at_once_is_not_shown() -> None:
    told = io.StringIO()
    with Steps("embed", "scans", Console(file=told)) as steps:
        steps(1, 2)
        steps(2, 2)
    assert told.getvalue() == ""


@pytest.mark.parametrize(("seconds", "said"), [(42, "42 s"), (190, "3 min"), (7800, "2 h 10 min")])
def test_durations_are_said_as_a_person_would(seconds: float, said: str) -> None:
    assert duration(seconds) == said
