"""``--fractions`` and ``--seeds``, which classify and segment share."""

from __future__ import annotations

from typing import Annotated

import typer

from volta3d.errors import UsageError

Fractions = Annotated[
    str | None,
    typer.Option(help="Train on these shares of the training part, e.g. .2,.4,.6,.8,1"),
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Repetitions; 3 when fractions are given, else 1.")
]


def repetition_settings(fractions: str | None, seeds: int | None) -> list[str]:
    """The settings that the two options stand for.

    Raises:
        UsageError: fractions that are no numbers.
    """
    settings = []
    if fractions is not None:
        settings.append(f"fractions={_numbers(fractions)}")
    if seeds is not None or fractions is not None:
        settings.append(f"seeds={seeds or 3}")
    return settings


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            "Fractions are numbers with commas between them",
            where=text,
            fix="Write --fractions .2,.6,1",
        ) from error
