"""Do two views of one scan agree more than views of different scans, on people held out?

Information says that the teacher's answers differ from scan to scan; noise does that too. Agreement
is what noise has not: the answers to two views of one scan are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volta3d.cohort.subjects import subjects_of
from volta3d.objective.diagnostics import advantage, icc, retrieval
from volta3d.objective.schedules import Now
from volta3d.pretrain.data import Scans
from volta3d.pretrain.step import SelfDistillation
from volta3d.views.batch import ViewBatch

PEOPLE = 48  # at most


def watched_people(scans: Scans, indices: np.ndarray) -> np.ndarray:
    """One scan of each person, ``PEOPLE`` at most: held-out people, else some of ``indices``."""
    places = scans.held if len(scans.held) else indices
    people = np.array(subjects_of(scans.participants)[0])[places]
    first = np.sort(np.unique(people, return_index=True)[1])
    chosen: np.ndarray = places[first][:PEOPLE]
    return chosen


@torch.no_grad()
def agreement(
    distillation: SelfDistillation,
    scans: Scans,
    places: np.ndarray,
    now: Now,
    views: Callable[[np.ndarray], ViewBatch],
    at_once: int,
) -> dict[str, Any]:
    """How far two views of a scan agree, by the teacher.

    Args:
        places: of the scans, one of each person.
        now: the teacher's temperature.
        views: of some scans, the same at every call.
        at_once: scans of a batch.

    Returns:
        ``scans``; ``held_out``, whether they are; ``icc`` of the summary token; ``retrieval`` and
        ``retrieval_mean``, how often the nearest view of all is the other one of the scan, by the
        token and by the mean of the patch tokens; ``entropy_within`` and ``entropy_between``, the
        teacher's cross-entropy between two views of a scan and of different scans in nat, and
        ``advantage``, their difference in standard errors. The last three are None without a CLS
        loss, whose head nobody trains then.
    """
    teacher, tokens, means, logs = distillation.pair.teacher, [], [], []
    alive = "cls" in distillation.names
    for start in range(0, len(places), at_once):
        part = places[start : start + at_once]
        patches = teacher.encoder(views(part).global_views)
        token = teacher.summariser(patches)
        tokens.append(token.float().unflatten(0, (2, -1)))
        means.append(patches.float().mean(1).unflatten(0, (2, -1)))
        if alive:
            logits = distillation.logits_of(teacher, token)[0].float()
            scaled = (logits - distillation.cls_center.value) / now.teacher_temperature
            logs.append(scaled.log_softmax(-1).unflatten(0, (2, -1)))
    token, mean = torch.cat(tokens, dim=1).cpu(), torch.cat(means, dim=1).cpu()
    record: dict[str, Any] = {
        "scans": len(places),
        "held_out": bool(len(scans.held)),
        "icc": icc(token),
        "retrieval": retrieval(token),
        "retrieval_mean": retrieval(mean),
    }
    names = ("entropy_within", "entropy_between", "advantage")
    found: Tensor | None = torch.cat(logs, dim=1).cpu() if logs else None
    values = (None, None, None) if found is None else advantage(found)
    return record | dict(zip(names, values, strict=True))
