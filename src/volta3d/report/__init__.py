"""Runs to one folder that opens in a browser from disk, offline."""

from volta3d.report.page import report

__all__ = ["report"]
