"""Histogram standardisation: every scan's deciles moved onto those of a standard.

Nyul and Udupa, On standardizing the MR image intensity scale, Magn Reson Med 42 (1999), with the
deciles as landmarks (Nyul, Udupa and Zhang, IEEE TMI 19, 2000). The ends of the scale are the
contract's percentiles, 0 and 1 here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from volta3d.config import parse_yaml
from volta3d.errors import ConfigError
from volta3d.prepare.findings import Refused

DECILES = tuple(range(10, 100, 10))
COUNT = len(DECILES) + 2
APART = 1e-4  # of the scale; landmarks closer than this are one
FIX = "Give a JSON file with 11 rising numbers from 0 to 1, or the contract.yaml of a cohort"


def deciles(volume: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A scan's own landmarks [11]: 0, its deciles over the foreground, 1.

    Args:
        volume: intensities in 0 to 1.
        inside: bool of the same shape, the foreground.

    Raises:
        Refused: no foreground.
    """
    values = volume[inside]
    if not values.size:
        raise Refused("constant", "The foreground is empty", "Look at the scan")
    return np.array([0.0, *np.percentile(values, DECILES), 1.0])


def learn(scans: Iterable[np.ndarray]) -> tuple[float, ...]:
    """The standard [11]: the mean of the scans' landmarks, each [11]."""
    mean = np.mean(np.stack(list(scans)), axis=0)
    return tuple(round(float(value), 6) for value in mean)


def standardise(
    volume: np.ndarray, own: np.ndarray, standard: tuple[float, ...] | np.ndarray
) -> np.ndarray:
    """Intensities moved so that a scan's landmarks come to lie on the standard's.

    Linear between landmarks, so that the order of intensities is kept.

    Args:
        volume: float32 in 0 to 1.
        own, standard: landmarks [11].
    """
    to = np.asarray(standard, np.float64)
    kept = [0]
    for index in range(1, COUNT):
        if own[index] - own[kept[-1]] > APART:
            kept.append(index)
    kept[-1] = COUNT - 1  # the upper end stays where it is
    moved: np.ndarray = np.interp(volume, own[kept], to[kept]).astype(np.float32)
    return np.clip(moved, 0, 1, out=moved)


def read_landmarks(path: Path) -> tuple[float, ...]:
    """Landmarks from a JSON list, a JSON object, or a cohort's contract.yaml.

    Raises:
        ConfigError: unreadable, or not 11 rising numbers from 0 to 1.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The landmarks cannot be read: {error}", where=path, fix=FIX) from error
    content = parse_yaml(f"landmarks: {text}" if text.startswith("[") else text, where=path)
    values = content.get("landmarks")
    try:
        found = tuple(float(v) for v in values)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        found = ()
    if not rising(found):
        raise ConfigError("These are no landmarks", where=path, fix=FIX)
    return found


def rising(landmarks: tuple[float, ...]) -> bool:
    """Whether these are 11 numbers from 0 to 1 that never fall."""
    if len(landmarks) != COUNT or not np.isfinite(landmarks).all():
        return False
    return landmarks[0] == 0 and landmarks[-1] == 1 and bool((np.diff(landmarks) >= 0).all())
