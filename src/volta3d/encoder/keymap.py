"""Other people's tensor names to ours: a map as data, and a report of what fits.

A map is a YAML file in ``keys/``. Its ``anchor`` is a name that every such network has; what stands
before it in a checkpoint is the prefix of all names that are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import yaml
from torch import Tensor

from volta3d.encoder.weights import KeyReport
from volta3d.errors import EncoderError, UsageError, nearest

FOLDER = "keys"


@dataclass(frozen=True)
class KeyMap:
    """How the tensors of one kind of checkpoint are called.

    Args:
        name: of the map.
        network: the kind of network that they are for.
        anchor: the name of a tensor that each has.
        prefer: words of the prefix that is taken where several fit, the best first.
        ignore: patterns of names that nothing uses.
        rename: patterns and what they become; the first that matches a whole name counts.
        flatten: names, after renaming, of tensors that become matrices.
    """

    name: str
    network: str
    anchor: str
    prefer: tuple[str, ...]
    ignore: tuple[str, ...]
    rename: tuple[tuple[str, str], ...]
    flatten: tuple[str, ...]

    def convert(self, tensors: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
        """The tensors wanted under our names; the rest of the checkpoint is left out.

        Raises:
            EncoderError: none is called like the anchor.
        """
        prefix = self.prefix(tensors, where)
        found: dict[str, Tensor] = {}
        for name, value in tensors.items():
            if not name.startswith(prefix):
                continue
            bare = name.removeprefix(prefix)
            if any(re.fullmatch(pattern, bare) for pattern in self.ignore):
                continue
            ours = self._renamed(bare)
            found[ours] = value.flatten(1) if ours in self.flatten else value
        return found

    def prefix(self, names: Iterable[str], where: object) -> str:
        """What stands before the names wanted.

        Raises:
            EncoderError: none is called like the anchor.
        """
        given = list(names)
        ending = f".{self.anchor}"
        candidates = [n.removesuffix(self.anchor) for n in given if f".{n}".endswith(ending)]
        if not candidates:
            raise EncoderError(
                f"Not the weights of {self.name}: of {len(given)} tensors none is called "
                f"'{self.anchor}'",
                where=where,
                fix=f"Name another --as: {', '.join(map_names())}",
            )
        for word in self.prefer:
            chosen = [c for c in candidates if word in c]
            if chosen:
                return min(chosen, key=len)
        return min(candidates, key=len)

    def _renamed(self, name: str) -> str:
        for pattern, becomes in self.rename:
            if match := re.fullmatch(pattern, name):
                return match.expand(becomes)
        return name


def map_names() -> list[str]:
    """The kinds of checkpoints that can be imported."""
    folder = files("volta3d.encoder").joinpath(FOLDER)
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def read_map(name: str) -> KeyMap:
    """The map of a kind of checkpoint.

    Raises:
        UsageError: there is none.
    """
    if name not in map_names():
        raise UsageError("No such kind of weights", where=name, fix=nearest(name, map_names()))
    file = files("volta3d.encoder").joinpath(FOLDER, f"{name}.yaml")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return KeyMap(
        name,
        str(content["network"]),
        str(content["anchor"]),
        tuple(content["prefer"]),
        tuple(content["ignore"]),
        tuple((str(a), str(b)) for a, b in content["rename"]),
        tuple(content["flatten"]),
    )


def compare(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> KeyReport:
    """Which names two sets of shapes share."""
    both = sorted(wanted.keys() & found.keys())
    return KeyReport(
        matched=tuple(k for k in both if wanted[k] == found[k]),
        missing=tuple(sorted(wanted.keys() - found.keys())),
        unknown=tuple(sorted(found.keys() - wanted.keys())),
        other_shape=tuple(k for k in both if wanted[k] != found[k]),
    )
