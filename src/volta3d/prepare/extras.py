"""What a preparation needs beyond the core, looked for before any work starts."""

from __future__ import annotations

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig
from volta3d.prepare.bias import require_simpleitk
from volta3d.prepare.brainmask import require_deepbet


def require_extras(wanted: PrepareConfig | Contract) -> None:
    """Make sure that everything a preparation asks for is installed.

    Raises:
        UsageError: something isn't, with the command that installs it.
    """
    if wanted.bias == "n4":
        require_simpleitk()
    if wanted.skull_strip == "deepbet":
        require_deepbet()
