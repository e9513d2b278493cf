"""The command line: parse, call the stage of the same name, print, exit with the agreed code.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 finished with something quarantined or found.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from rich.console import Console

from volta3d.cli import (
    downstream,
    features,
    importing,
    scans,
    segmentation,
    sharing,
    show,
    training,
    whole,
)
from volta3d.cli.app import app
from volta3d.errors import VoltaError

__all__ = [
    "app",
    "downstream",
    "features",
    "importing",
    "main",
    "scans",
    "segmentation",
    "sharing",
    "show",
    "training",
    "whole",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: every failure becomes one paragraph and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"]
    _quieten(debug)
    try:
        app(given, standalone_mode=True)
    except VoltaError as error:
        _fail(error.paragraph(), error.exit_code, debug)
    except BrokenPipeError:
        os._exit(1)  # the reader left; nothing more can be said
    except Exception as error:
        _fail(
            f"Something unforeseen went wrong: {type(error).__name__}: {error}. "
            "Run the command again with --debug and report what it prints.",
            1,
            debug,
        )


def _quieten(debug: bool) -> None:
    """Libraries' chatter isn't the user's business; their warnings show with --debug."""
    if not debug:
        warnings.filterwarnings("ignore", module=r"(?!volta3d)")
        logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *_a, **_k: Console(stderr=True).print(
        f"Warning: {message}", markup=False, highlight=False
    )


def _fail(paragraph: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    Console(stderr=True).print(f"Error: {paragraph}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
