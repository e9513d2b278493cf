"""Runs to one folder that opens in a browser from disk, offline."""

from volta3d.callable_room import make_callable
from volta3d.report.page import report

__all__ = ["report"]

make_callable(__name__)
