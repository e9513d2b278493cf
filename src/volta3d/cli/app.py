"""The application that every command joins, and what the commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from volta3d import __version__
from volta3d.errors import VoltaError

FOUND = 3  # exit code: finished, with something quarantined or found

ORDER = (
    "demo", "prepare", "inspect", "audit", "doctor", "pretrain", "import", "embed", "probe",
    "classify", "segment", "predict", "evaluate", "report", "study", "export",
)  # fmt: skip


class InOrder(TyperGroup):
    """Commands in the order in which a person needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, those of `ORDER` first."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C becomes an error that says how to go on.

        Raises:
            VoltaError: interrupted.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise VoltaError(
                "Interrupted", fix="Run the command again to go on; finished parts are kept"
            ) from error


app = typer.Typer(
    cls=InOrder,
    name="volta3d",
    help="Self-supervised pretraining of 3D transformers on brain MRI: scans in, encoder out.",
    epilog="Add --debug to any command for a traceback. Start with: volta3d demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable."),
]


def say(text: str) -> None:
    """Print to standard output as it is."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print to standard error as it is: worth knowing, and not the result."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def example(command: str) -> str:
    """The epilogue of a command's help; a test runs these."""
    return f"Example: {command}"


def _version(asked: bool) -> None:
    if asked:
        say(f"volta3d {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and leave.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Every command's own options come after it."""
