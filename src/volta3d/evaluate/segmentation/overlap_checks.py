"""Findings on label maps that can hardly mean what they are scored as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from volta3d.downstream.segmentation.structures import Structure

LABELS_FIX = (
    "Look at one of them; --labels gives the numbers for all folders, and without it, or with a "
    "dseg.tsv in each, every folder's own are found"
)
RUN_FIX = "Look at one of its label maps: the arm may not have learnt anything"


def without_overlap(
    cases: pd.DataFrame, structures: Mapping[str, Sequence[Structure]], fix: str
) -> list[dict[str, str]]:
    """Structures that overlap the reference in not one case of an arm.

    Args:
        cases: scored, with ``arm``, ``structure``, ``status`` and ``dice``.
        structures: arm to its structures, in the order of the reference's.
        fix: what can be done.

    Returns:
        For each ``arm``, ``structure``, ``what``, ``how_to_fix``.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(cases["structure"]))}
    found = []
    known = cases[cases["status"].isin(["ok", "missed"])]
    for (arm, structure), own in known.groupby(["arm", "structure"], sort=False):
        if (own["dice"] > 0).any():
            continue
        values = structures[str(arm)][order[str(structure)]].values
        label = f"label {', '.join(str(v) for v in values)}"
        what = f"'{structure}' ({label}) overlaps the reference in none of {len(own)} label maps"
        if (own["status"] == "missed").all():
            what = f"'{structure}' ({label}) is in none of {len(own)} label maps"
        found.append(
            {"arm": str(arm), "structure": str(structure), "what": what, "how_to_fix": fix}
        )
    return found


def without_scores(arms: Sequence[str], cases: pd.DataFrame, fix: str) -> list[dict[str, str]]:
    """Arms of which no label map could be scored, as findings."""
    what = "None of its label maps could be scored"
    silent = [arm for arm in arms if arm not in set(cases["arm"])]
    return [{"arm": arm, "structure": "", "what": what, "how_to_fix": fix} for arm in silent]
