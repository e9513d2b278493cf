"""Rooms that are called by their own name: ``volta3d.prepare(...)``.

A folder of this package and the function it exists for share a name, and Python binds
``volta3d.prepare`` to the folder as soon as anything in it is imported. So folders can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A folder that passes calls on to the function of its name in ``volta3d.api``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; its own arguments, results and errors."""
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        return signature(self._function())

    def _function(self) -> Any:
        return getattr(import_module("volta3d.api"), self.__name__.rpartition(".")[2])


def make_callable(name: str) -> None:
    """Let a room be called.

    Args:
        name: the room's ``__name__``, of a module that is being imported.
    """
    sys.modules[name].__class__ = CallableRoom
