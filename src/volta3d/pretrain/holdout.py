"""People held out of training, on whom agreement is watched."""

from __future__ import annotations

import numpy as np
import pandas as pd

from volta3d.cohort.subjects import subjects_of
from volta3d.errors import ConfigError


def held_out(participants: pd.DataFrame, holdout: float, seed: int) -> np.ndarray:
    """Places of all scans of the people held out, drawn at random by person.

    Args:
        participants: one row a scan.
        holdout: below 1 a share of the people, from 1 on their number; a share that comes to a
            single person holds nobody out, for agreement compares people.
        seed: of the run.

    Raises:
        ConfigError: nobody would be left to train on.
    """
    people = np.array(subjects_of(participants)[0])
    names = np.unique(people)
    count = int(holdout) if holdout >= 1 else round(holdout * len(names))
    if holdout < 1 and count < 2:
        count = 0
    if count >= len(names):
        raise ConfigError(
            f"{count} people are to be held out of training, and the cohort has {len(names)}",
            where="monitor.holdout",
            fix="Lower it",
        )
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    return np.flatnonzero(np.isin(people, chosen))
