"""The table of loss terms, and that everything that names the losses reads it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from volta3d.config import ObjectiveConfig
from volta3d.objective.terms import TERMS, active, total_of, weights_at


def test_every_term_has_its_weight_in_the_settings() -> None:
    names = [term.name for term in TERMS]
    assert len(set(names)) == len(names)
    assert set(names) <= set(ObjectiveConfig.model_fields)


def test_terms_of_weight_0_are_off() -> None:
    assert [t.name for t in active(ObjectiveConfig())] == ["reconstruction", "cls", "patch"]
    alone = ObjectiveConfig(cls=0, patch=0)
    assert [t.name for t in active(alone)] == ["reconstruction"]
    weights = weights_at(alone, 3.0)
    assert weights.keys() == {term.name for term in TERMS}
    assert {name: weight for name, weight in weights.items() if weight} == {"reconstruction": 100}


def test_the_cls_term_starts_late_and_ramps_and_the_others_do_not() -> None:
    late = ObjectiveConfig(cls=2, koleo=0.1, cls_start_epoch=2, cls_ramp_epochs=4)
    found = [weights_at(late, epoch) for epoch in (0, 2, 4, 6, 60)]
    assert [w["cls"] for w in found] == [0, 0, 1, 2, 2]
    assert {w["koleo"] for w in found} == {0.1}
    sudden = ObjectiveConfig(cls_start_epoch=2)
    assert [weights_at(sudden, epoch)["cls"] for epoch in (1.9, 2.0)] == [0, 1]


def test_the_total_is_the_weighted_sum() -> None:
    values = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert float(total_of(values, {"a": 0.5, "b": 10, "off": 1})) == 31
    with pytest.raises(ValueError, match="no loss term"):
        total_of({}, {})


def test_reports_read_the_table_without_torch() -> None:
    code = "import sys, volta3d.objective.terms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
