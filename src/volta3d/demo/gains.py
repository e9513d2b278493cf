"""Whether pretraining won in a demo; where it did not, the last screen says so."""

from __future__ import annotations

from collections.abc import Mapping

Scores = Mapping[str, Mapping[str, float | None]]

RIVALS = {"volta": "scratch", "linear": "untrained"}  # the identical network without pretraining
MARGIN = 0.02  # AUROC or Dice
LEAST = 0.5  # Dice from which an arm has learnt to outline


def lost(tasks: Mapping[str, Scores]) -> list[str]:
    """Where pretraining doesn't win by the margin, or an arm has not learnt to outline.

    Args:
        tasks: task to arm to its ``score``, as demo.json holds them.

    Returns:
        A sentence for each; empty when pretraining pays everywhere.
    """
    found = []
    for task, scores in tasks.items():
        for arm, rival in RIVALS.items():
            if arm not in scores or rival not in scores:
                continue
            ours, theirs = scores[arm]["score"], scores[rival]["score"]
            if ours is None or theirs is None or not ours - theirs >= MARGIN:
                found.append(f"{task}: {arm} {_text(ours)}, {rival} {_text(theirs)}")
        if "unet" in scores:
            found += [
                f"{task}: {arm} has not learnt to outline, Dice {_text(row['score'])}"
                for arm, row in scores.items()
                if (row["score"] or 0.0) < LEAST
            ]
    return found


def _text(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.2f}"
