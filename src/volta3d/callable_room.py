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


class _Signature:
    """The function's signature for a room, and none for the class of rooms."""

    def __get__(self, room: CallableRoom | None, kind: type[CallableRoom]) -> Signature:
        if room is None:
            raise AttributeError("__signature__")
        return signature(room._function())


class CallableRoom(ModuleType):
    """A folder that passes calls on to the function of its name in ``volta3d.api``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; its own arguments, results and errors."""
        return self._function()(*args, **kwargs)

    __signature__ = _Signature()

    def _function(self) -> Any:
        return getattr(import_module("volta3d.api"), self.__name__.rpartition(".")[2])


def make_callable(name: str) -> None:
    """Let a room be called.

    Args:
        name: the room's ``__name__``, of a module that is being imported.
    """
    sys.modules[name].__class__ = CallableRoom
