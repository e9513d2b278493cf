"""The step computes the terms that are on, what they need, and no more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from volta3d.errors import ConfigError
from volta3d.model.vit import Encoder
from volta3d.objective.terms import TERMS
from volta3d.pretrain.card import objective_of
from volta3d.pretrain.step import logged
from volta3d.pretrain.trainer import Trainer

Make = Callable[..., Trainer]
OFF = {name: f"objective.{name}=0" for name in ("reconstruction", "cls", "patch")}


def passes(made: Trainer, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many views each encoder saw, pass by pass, in one window of two scans."""
    seen: dict[str, list[int]] = {"student": [], "teacher": []}
    encode = Encoder.encode

    def counted(self: Encoder, patches: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        who = "student" if self is made.distillation.pair.student.encoder else "teacher"
        seen[who].append(len(patches))
        return encode(self, patches, grid)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", counted)
        made.window([np.array([0, 1])], 0, made.schedule.at(0))
    return seen


@pytest.mark.parametrize(
    ("settings", "student", "teacher"),
    [
        ((OFF["cls"], OFF["patch"]), [4], []),  # masked reconstruction alone
        ((OFF["cls"],), [4], [4]),
        ((OFF["reconstruction"], OFF["patch"]), [4, 2], [4]),  # and the two locals
        ((OFF["reconstruction"], OFF["patch"], "objective.cls_student=clean"), [4, 2], [4]),
        (("objective.cls_student=clean",), [8, 2], [4]),
        ((OFF["cls"], OFF["patch"], "objective.koleo=1", "objective.cls_student=clean"), [8], []),
    ],
)
def test_no_pass_is_made_that_no_term_needs(
    trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
    student: list[int],
    teacher: list[int],
) -> None:
    assert passes(trainer(*settings), monkeypatch) == {"student": student, "teacher": teacher}


@pytest.mark.parametrize("alone", TERMS, ids=lambda term: term.name)
def test_a_term_alone_has_the_value_it_has_among_the_others(trainer: Make, alone: object) -> None:
    made = trainer("objective.koleo=0.5", "objective.cls_student=clean")
    views, now = made.views(np.arange(3), 0), made.schedule.at(0)
    losses, _ = made.distillation(views, now)
    term = next(t for t in TERMS if t is alone)
    found = made.distillation.term(term, views, now)
    assert torch.allclose(found, losses.terms[term.name], rtol=1e-5)


def test_parts_that_no_term_trains_rest(trainer: Make) -> None:
    made = trainer(OFF["cls"], OFF["patch"], "lr=0.1")
    before = {k: v.clone() for k, v in made.distillation.state_dict().items()}
    made.window([np.array([0, 1])], 0, made.schedule.at(2))
    after = made.distillation.state_dict()
    moved = {k.split(".")[2] for k in before if not torch.equal(before[k], after[k])}
    moved_parts = {k for k in before if not torch.equal(before[k], after[k])}
    assert "encoder" in moved and any(k.startswith("pair.decoder") for k in moved_parts)
    assert not moved & {"summariser", "cls_head", "patch_head"}
    assert not any("center" in k or "standardiser" in k for k in moved_parts)


def test_the_log_keeps_its_names_when_terms_are_off(trainer: Make) -> None:
    made = trainer(OFF["cls"])
    record = next(made.epoch(0, 0))
    everything = trainer("objective.koleo=1")
    assert record.keys() == next(everything.epoch(0, 0)).keys()
    assert record["cls"] is None and record["cls_kl"] is None and record["koleo"] is None
    assert record["weighted"]["cls"] == 0.0
    assert logged({"loss": 1.0})["patch"] is None


def test_nothing_to_learn_is_refused(trainer: Make) -> None:
    with pytest.raises(ConfigError, match=r"Every loss term is off.*objective\.reconstruction"):
        trainer(*OFF.values())


def test_the_card_names_every_term_that_is_on() -> None:
    weights = {term.name: 0.5 for term in TERMS}
    text = objective_of(weights)
    assert all(f"{term.phrase} (weight 0.5)" in text for term in TERMS)
    assert "KoLeo" in text and "KoLeo" not in objective_of({**weights, "koleo": 0.0})
