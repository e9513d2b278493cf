"""Read the files of an encoder folder, every claim checked before memory is given to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from volta3d.cohort.contract import Contract
from volta3d.config import ModelConfig, build
from volta3d.errors import ConfigError, EncoderError, VoltaError
from volta3d.files import read_json, sha256
from volta3d.pretrain.encoder import CONFIG, FORMAT, WEIGHTS

LARGEST = 100_000  # of any number in the configuration; beyond is damage or malice
FLOATS = {"F64", "F32", "F16", "BF16"}
RESTORE = "Restore the encoder folder, or write it again with volta3d pretrain"


@dataclass(frozen=True)
class KeyReport:
    """How the tensors of a file fit an architecture.

    Args:
        matched: names that are in both with one shape.
        missing: names the architecture has and the file lacks.
        unknown: names the file has and the architecture lacks.
        other_shape: names in both whose shapes differ.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    other_shape: tuple[str, ...]

    def text(self) -> str:
        """One line: the counts, and the first names of what does not fit."""
        parts = [f"{len(self.matched)} matched"]
        for name in ("missing", "unknown", "other_shape"):
            found = getattr(self, name)
            parts.append(f"{len(found)} {name.replace('_', ' ')}")
            if found:
                parts[-1] += f" ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        return ", ".join(parts)


FOREIGN = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


def read_config(path: Path) -> dict[str, Any]:
    """The content of ``path/config.json``.

    Raises:
        EncoderError: no encoder there (saying what is there instead), not readable, or of an
            unknown format.
    """
    if not (path / CONFIG).is_file():
        what, fix = "No encoder there", "Name the encoder folder that volta3d pretrain wrote"
        if (path / "encoder" / CONFIG).is_file():
            what, fix = "A run, not an encoder", f"Name its encoder: {path / 'encoder'}"
        elif (path / "contract.yaml").is_file():
            what = "A cohort, not an encoder"
        elif path.is_dir() and (path / WEIGHTS).is_file():
            what, fix = f"The encoder's {CONFIG} is missing", RESTORE
        elif path.is_file() and path.suffix.lower() in FOREIGN:
            what = "What torch.save writes can hold any program and is no encoder folder"
            fix = (
                "Make one with: volta3d import FILE --as monai-vit --contract CONTRACT.yaml --out "
                "ENCODER"
            )
        raise EncoderError(what, where=path, fix=fix)
    try:
        content = read_json(path / CONFIG)
    except (VoltaError, OSError, RecursionError) as error:
        raise EncoderError(f"{CONFIG} cannot be read: {error}", where=path, fix=RESTORE) from error
    if not isinstance(content, dict):
        raise EncoderError(f"{CONFIG} is not a mapping", where=path, fix=RESTORE)
    if content.get("format") != FORMAT:
        raise EncoderError(
            f"Encoder format {content.get('format')!r} is unknown, this volta3d reads {FORMAT}",
            where=path,
            fix="Install the volta3d that wrote it, or a newer one",
        )
    return content


def read_architecture(
    content: dict[str, Any], path: Path
) -> tuple[ModelConfig, Contract, int, int]:
    """The model, the contract, the image size and the downsampling that a config.json states.

    Raises:
        EncoderError: one of them is missing, of the wrong kind or beyond all bounds.
    """
    for key in ("model", "contract", "image_size", "downsample", "weights_sha256"):
        kind = dict if key in ("model", "contract") else str if key == "weights_sha256" else int
        if not isinstance(content.get(key), kind):
            raise EncoderError(f"'{key}' is missing from {CONFIG}", where=path, fix=RESTORE)
    try:
        model, contract = build(ModelConfig, content["model"]), build(Contract, content["contract"])
    except ConfigError as error:
        raise EncoderError(f"{CONFIG} is damaged: {error}", where=path, fix=RESTORE) from error
    image_size, downsample = content["image_size"], content["downsample"]
    numbers = [image_size, downsample, contract.size, *model.content().values()]
    if not all(1 <= n <= LARGEST for n in numbers) or contract.size % downsample:
        raise EncoderError(f"{CONFIG} holds impossible sizes", where=path, fix=RESTORE)
    return model, contract, image_size, downsample


def check_sha256(content: dict[str, Any], path: Path) -> None:
    """Refuse weights that are not those config.json was written with.

    Raises:
        EncoderError: missing, not readable, or another checksum.
    """
    file = path / WEIGHTS
    if not file.is_file():
        raise EncoderError("The encoder's weights are missing", where=file, fix=RESTORE)
    try:
        found = sha256(file)
    except OSError as error:
        raise EncoderError(f"Not readable: {error}", where=file, fix=RESTORE) from error
    if found != content["weights_sha256"]:
        raise EncoderError(
            f"The encoder's weights are not those {CONFIG} was written with",
            where=file,
            fix=RESTORE,
        )


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the header; nothing is allocated for the tensors.

    Raises:
        EncoderError: malformed or truncated, or tensors that are not floating point.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            kinds = {s.get_dtype() for s in slices.values()}
            shapes = {name: tuple(s.get_shape()) for name, s in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    if not kinds <= FLOATS:
        raise EncoderError(f"Weights of type {sorted(kinds - FLOATS)}", where=file, fix=RESTORE)
    return shapes


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors, in fp32.

    Raises:
        EncoderError: malformed or truncated, or NaN or infinity in it.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise EncoderError(f"NaN or infinite weights: {bad[0]}", where=file, fix=RESTORE)
    return tensors


def _unreadable(file: Path, error: Exception) -> EncoderError:
    return EncoderError(f"Not a whole safetensors file: {error}", where=file, fix=RESTORE)
