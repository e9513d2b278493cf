"""Alarms: the signs of collapse, each with its limit (METHOD section 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Alarm:
    """A monitored value that crossed its limit.

    Args:
        name: of the value in metrics.jsonl.
        value, limit: what it is, and what it should not have crossed.
        what: one phrase for a person.
        level: ``warn`` is worth a look and never ends a run; ``stop`` ends one whose
            ``monitor.alarm`` is ``stop``.
    """

    name: str
    value: float
    limit: float
    what: str
    level: Literal["warn", "stop"] = "stop"

    def record(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        return {"kind": "alarm", **vars(self)}


MIN_SCANS = 64  # fewer say too little about a cohort's spread
ENTROPY_HIGH, ENTROPY_LOW = 0.98, 0.1  # of ln K
RANK_WARNING = 10.0
ENTROPY_STEPS = 50
FLAT_STEPS = 200
FLAT = 0.02  # nat
MIN_PEOPLE = 8  # fewer give no standard error worth the name
ADVANTAGE = 3.0  # [C] standard errors; noise passes it once in some hundred looks
KNN_LOSS = 0.2  # [C] about two standard errors of an AUROC or r on a hundred scans


def alarms(monitor: dict[str, Any], *, scans: int, standardised: bool = False) -> list[Alarm]:
    """The alarms that one epoch's monitors raise.

    Args:
        monitor: the epoch record of metrics.jsonl.
        scans: how many scans it was computed on; fewer than 64 raise nothing.
        standardised: whether the bottleneck is; what all features share is then subtracted before
            the head, so that their cosine says nothing.

    Source: METHOD section 10, "Alarms".
    """
    if scans < MIN_SCANS:
        return []
    found = []

    def below(name: str, limit: float, what: str, level: Literal["warn", "stop"] = "stop") -> None:
        value = _get(monitor, name)
        if value is not None and value < limit:
            found.append(Alarm(name, value, limit, what, level))

    def above(name: str, limit: float, what: str) -> None:
        value = _get(monitor, name)
        if value is not None and value > limit:
            found.append(Alarm(name, value, limit, what))

    below("information", 0.05, "the teacher says the same of every scan")
    if not standardised:
        above("mean_cosine", 0.995, "the features of all scans point the same way")
    above("bottleneck_cosine", 0.995, "the bottleneck of all scans points the same way")
    rank = _get(monitor, "effective_rank")
    if rank is not None and rank < 2.0:
        below("effective_rank", 2.0, "the features span fewer than two directions")
    else:
        below("effective_rank", RANK_WARNING, "the features span fewer than ten directions", "warn")
    found += gradient_alarms(monitor.get("gradient_norms") or {})
    return found


def agreement_alarms(record: dict[str, Any], cls_weight: float) -> list[Alarm]:
    """Rings when views of one scan get no more alike answers than views of different scans.

    That is what noise in place of the bottleneck does, however different its answers are. Silent
    where the CLS loss is not trained yet, or fewer than ``MIN_PEOPLE`` were looked at.

    Args:
        record: the epoch record of metrics.jsonl.
        cls_weight: of the CLS loss at that epoch.
    """
    measured = record.get("agreement") or {}
    value = _get(measured, "advantage")
    if not cls_weight or value is None or measured["scans"] < MIN_PEOPLE or value >= ADVANTAGE:
        return []
    what = "views of one scan get no more alike answers than views of different scans"
    return [Alarm("agreement", value, ADVANTAGE, what, "warn")]


def gradient_alarms(norms: dict[str, float]) -> list[Alarm]:
    """Rings when the CLS loss hardly moves the encoder beside the patch loss.

    A CLS loss that is off, in an ablation or before its start, moves nothing and is silent.
    """
    cls, patch = _get(norms, "cls"), _get(norms, "patch")
    if not cls or not patch or cls / patch >= 0.02:
        return []
    what = "the CLS loss hardly moves the encoder beside the patch loss"
    return [Alarm("cls_to_patch_gradient", cls / patch, 0.02, what, "warn")]


def knn_alarms(now: dict[str, Any], untrained: dict[str, Any], *, scans: int) -> list[Alarm]:
    """Rings when nearest neighbours know less of the probed column than before any training.

    Args:
        now, untrained: epoch records of metrics.jsonl, the second of epoch 0.
        scans: how many scans they were computed on; fewer than 64 raise nothing.
    """
    if scans < MIN_SCANS:
        return []
    found = []
    for name in ("token", "token_within_data_sets"):
        scores, before = (r.get("knn", {}).get(name, {}) for r in (now, untrained))
        for metric, value in scores.items():
            reference = _get(before, metric)
            if value is None or reference is None or not math.isfinite(value):
                continue
            limit = reference - KNN_LOSS
            if value < limit:
                what = (
                    f"nearest neighbours ({metric}) know less than those of the untrained encoder"
                )
                found.append(Alarm(f"knn_{name}", value, limit, what, "warn"))
    return found


class StepAlarms:
    """Alarms on what single steps show, once it was so for many steps in a row.

    Args:
        hits: how many steps in a row each was hit so far, kept in checkpoints.
        prototypes: K of the CLS head.
        scans: of the cohort; fewer than 64 raise nothing.

    Source: METHOD section 10.
    """

    def __init__(self, hits: dict[str, int], *, prototypes: int, scans: int) -> None:
        self.hits = hits
        self.largest = math.log(prototypes)
        self.quiet = scans < MIN_SCANS

    def see(self, record: dict[str, Any]) -> list[Alarm]:
        """The alarms that this step's record completes; each rings once until it is over.

        A step without a CLS loss says nothing about it.
        """
        if self.quiet or not record.get("cls_weight"):
            return []
        entropy, loss = record["teacher_entropy"], record["cls"]
        watched = (
            (
                entropy > ENTROPY_HIGH,
                ENTROPY_STEPS,
                Alarm(
                    "teacher_entropy",
                    entropy,
                    ENTROPY_HIGH,
                    "the teacher's distributions are uniform",
                ),
            ),
            (
                entropy < ENTROPY_LOW,
                ENTROPY_STEPS,
                Alarm(
                    "teacher_certainty",
                    entropy,
                    ENTROPY_LOW,
                    "the teacher's distributions are single prototypes",
                ),
            ),
            (
                abs(loss - self.largest) < FLAT,
                FLAT_STEPS,
                Alarm("cls_flat", loss, self.largest, "the CLS loss stands at ln K"),
            ),
        )
        found = []
        for hit, steps, alarm in watched:
            count = self.hits.get(alarm.name, 0) + 1 if hit else 0
            self.hits[alarm.name] = count
            if count == steps:
                found.append(alarm)
        return found


def _get(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return None if value is None or not math.isfinite(value) else float(value)


def finite(values: dict[str, float]) -> list[str]:
    """The names of values that are NaN or infinite."""
    return [name for name, value in values.items() if not math.isfinite(value)]
