"""``--arm NAME=SPEC``: what is compared with what.

SPEC is an encoder folder; a word such as ``scratch`` or ``swin``; a word and an encoder folder that
say how it is used (``linear:run/encoder``, ``frozen:run/encoder``, ``linear:scratch`` for the
untrained one); or ``scratch`` and the preset whose architecture is meant (``scratch:small``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.arms import ENCODER, SCRATCH, Kind
from volta3d.artefacts import MODEL, MODEL_CONFIG
from volta3d.encoder.places import is_known
from volta3d.errors import UsageError, nearest

SAW = "pretraining_saw"  # read beside the encoder: what is known of an arm, not what it is
REPETITION = re.compile(r"\.(seed\d+|fraction[\d.e-]+)$", re.IGNORECASE)  # of label-map folders
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class ArmSpec:
    """One arm as the command line states it.

    Args:
        name: as the user calls it; a file name on every system.
        kind: a key of the table of kinds: ``encoder``, ``scratch``, ``swin``, ``unet`` ...
        source: an encoder folder, a preset, or ``scratch``; empty when the word says all.
        how: how a network is tuned when the SPEC says so (``frozen``, ``last``, ``full``); empty:
            as the configuration says.
    """

    name: str
    kind: str
    source: str = ""
    how: str = ""

    @property
    def path(self) -> Path:
        """The encoder folder."""
        return Path(self.source)

    @property
    def has_encoder(self) -> bool:
        """Whether it is made of a pretrained encoder."""
        return bool(self.source) and self.kind != SCRATCH and self.source != SCRATCH

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "kind": self.kind, "source": self.source, "how": self.how}


def parse_arms(
    texts: Sequence[str], kinds: Mapping[str, Kind], tunes: Sequence[str]
) -> list[ArmSpec]:
    """The arms of a command line, in their order.

    Args:
        texts: each ``NAME=SPEC``.
        kinds: the table of kinds of the task.
        tunes: words that stand before an encoder or ``scratch`` and say how much is trained.

    Raises:
        UsageError: none given, not NAME=SPEC, a name twice or of a repetition, an unknown kind, or
            an encoder folder that isn't there.
    """
    if not texts:
        raise UsageError("Nothing to compare", fix="Add for example --arm volta=run/encoder")
    arms: list[ArmSpec] = []
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
                "Names that end in .seed or .fraction and a number are those of repetitions",
                where=name,
                fix="Call the arm something else",
            )
        if name.casefold() in {a.name.casefold() for a in arms}:
            raise UsageError("Two arms have the same name", where=name, fix="Rename one of them")
        arms.append(_parse(name, spec, kinds, tunes))
    return arms


def _parse(name: str, spec: str, kinds: Mapping[str, Kind], tunes: Sequence[str]) -> ArmSpec:
    before, colon, after = spec.partition(":")
    if colon and before in tunes and after:
        inner = _parse(name, after, kinds, tunes)
        if inner.how or not kinds[inner.kind].tuned:
            raise UsageError(
                f"'{before}:' stands before an encoder folder or scratch",
                where=spec,
                fix=f"Write {name}={after}, or {name}={before}:ENCODER",
            )
        return ArmSpec(name, inner.kind, inner.source, before)
    if spec in kinds and kinds[spec].word:
        return ArmSpec(name, spec)
    kind = kinds.get(before)
    if colon and after and kind is not None and kind.of_preset:
        return ArmSpec(name, before, after)
    if colon and after and kind is not None and kind.of_encoder:
        untrained = after == SCRATCH
        return ArmSpec(name, before, after if untrained else _folder(after, spec, kinds, tunes))
    return ArmSpec(name, ENCODER, _folder(spec, spec, kinds, tunes))


def _folder(path: str, spec: str, kinds: Mapping[str, Kind], tunes: Sequence[str]) -> str:
    if not Path(path).is_dir() and not is_known(path):
        words = [k for k, kind in kinds.items() if kind.word]
        known = [*words, *(f"{k}:ENCODER" for k, kind in kinds.items() if kind.of_encoder)]
        known += [f"{tune}:ENCODER" for tune in tunes]
        close = nearest(path, words)
        raise UsageError(
            "Neither an encoder folder nor a known kind of arm",
            where=spec,
            fix=f"Give an encoder folder, or one of {', '.join(known)}"
            + (f". {close}" if close.startswith("Did") else ""),
        )
    return path


def changed_arms(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Arms declared otherwise than in an earlier call, one line each with what differs."""
    lines = []
    for name, declared in now.items():
        known = before.get(name)
        keys = [k for k in declared if k != SAW and known and known.get(k) != declared[k]]
        if keys:
            lines.append(f"arm {name}: {', '.join(keys)}")
    return lines


def is_arm(path: Path) -> bool:
    """Whether a folder is that of a finished arm, RUN/arms/NAME, and no model itself."""
    return not (path / MODEL_CONFIG).is_file() and (path / MODEL / MODEL_CONFIG).is_file()
