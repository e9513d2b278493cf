"""``--arm NAME=SPEC``: what is compared with what.

SPEC is an encoder folder; a word such as ``scratch`` or ``swin``; a word and an encoder folder that
say how it is used (``linear:run/encoder``, ``frozen:run/encoder``, ``linear:scratch`` for the
untrained one); or ``scratch`` and the preset whose architecture is meant (``scratch:small``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.encoder.places import is_known
from volta3d.errors import UsageError

ENCODER = "encoder"
MODEL, CONFIG = "model", "config.json"  # the model in the folder of a finished arm
SAW = "pretraining_saw"  # found beside the encoder: what is told of an arm, not what it is
REPETITION = re.compile(r"\.seed\d+$", re.IGNORECASE)  # folders of label maps end like this
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Arm:
    """One contestant.

    Args:
        name: as the user calls it; a file name on every system.
        kind: ``encoder``, or the word of the SPEC (``scratch``, ``swin``, ``unet``, ``linear``...).
        source: an encoder folder, or a preset; empty when the word says all.
        how: how an encoder is tuned when the SPEC says so (``frozen``, ``last``, ``full``), or
            ``linear`` for a linear model on what an untrained one says; empty: as the
            configuration says.
    """

    name: str
    kind: str
    source: str = ""
    how: str = ""

    @property
    def path(self) -> Path:
        """The encoder folder."""
        return Path(self.source)

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "kind": self.kind, "source": self.source, "how": self.how}


def parse_arms(
    texts: Sequence[str],
    *,
    words: Collection[str],
    uses: Collection[str] = (),
    hows: Collection[str] = (),
) -> list[Arm]:
    """The arms of a command line, in their order.

    Args:
        texts: each ``NAME=SPEC``.
        words: SPECs that need no folder, such as ``scratch`` and ``swin``; ``word:preset`` is
            allowed for ``scratch``.
        uses: words that stand before an encoder folder, or ``scratch``, and are a kind of arm:
            ``linear``.
        hows: words that stand before an encoder folder and say how it is tuned: ``frozen``.

    Raises:
        UsageError: none given, not NAME=SPEC, a name twice or of a repetition, or an encoder folder
            that isn't there.
    """
    if not texts:
        raise UsageError("Nothing to compare", fix="Add for example --arm volta=run/encoder")
    arms: list[Arm] = []
    for text in texts:
        name, separator, spec = text.partition("=")
        name, spec = name.strip(), spec.strip()
        if not separator or not spec or not NAME.fullmatch(name):
            raise UsageError(
                "--arm takes NAME=SPEC, the name of letters, digits, '.', '_' and '-'",
                where=text,
                fix="Write for example --arm volta=run/encoder",
            )
        if REPETITION.search(name):
            raise UsageError(
                "Names that end in .seed and a number are those of repetitions",
                where=name,
                fix="Call the arm something else",
            )
        if name.casefold() in {a.name.casefold() for a in arms}:
            raise UsageError("Two arms have the same name", where=name, fix="Rename one of them")
        arms.append(_parse(name, spec, words, uses, hows))
    return arms


def _parse(
    name: str, spec: str, words: Collection[str], uses: Collection[str], hows: Collection[str]
) -> Arm:
    if spec in words:
        return Arm(name, spec)
    before, colon, after = spec.partition(":")
    if colon and after:
        if before == "scratch" and before in words:
            return Arm(name, before, after)
        if before in uses and after == "scratch" and after in words:
            return Arm(name, after, how=before)
        if before in uses:
            return Arm(name, before, _folder(after, spec, words, uses, hows))
        if before in hows:
            if after in words:
                return Arm(name, after, how=before)
            return Arm(name, ENCODER, _folder(after, spec, words, uses, hows), before)
    return Arm(name, ENCODER, _folder(spec, spec, words, uses, hows))


def _folder(
    path: str, spec: str, words: Collection[str], uses: Collection[str], hows: Collection[str]
) -> str:
    if not Path(path).is_dir() and not is_known(path):
        known = [*words, *(f"{u}:ENCODER" for u in (*uses, *hows))]
        raise UsageError(
            "Neither an encoder folder nor a known kind of arm",
            where=spec,
            fix=f"Give an encoder folder, or one of {', '.join(known)}",
        )
    return path


def changed_arms(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Arms declared otherwise than in an earlier call, one line each with what differs."""
    found = []
    for name, declared in now.items():
        known = before.get(name)
        keys = [k for k in declared if k != SAW and known and known.get(k) != declared[k]]
        if keys:
            found.append(f"arm {name}: {', '.join(keys)}")
    return found


def is_arm(path: Path) -> bool:
    """Whether a folder is that of a finished arm, RUN/arms/NAME, and no model itself."""
    return not (path / CONFIG).is_file() and (path / MODEL / CONFIG).is_file()
