"""The training loop: which weights are judged, kept and left in the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from volta3d.arms.segmenter import Architecture, empty
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.config import SegmentConfig, load_segment
from volta3d.downstream.segmentation import fit as fit_module
from volta3d.downstream.segmentation.fit import Fit, Task
from volta3d.downstream.segmentation.labelled import LabelledScans

EDGE = 16
NAMES = {47: "Right-Hippocampus", 48: "Left-Hippocampus"}
SIZES = {"channels": [4, 8], "strides": [2], "residual_units": 1}


def config_of(*settings: str) -> SegmentConfig:
    tiny = ["crops.size=16", "unet.channels=[4,8]", "unet.strides=[2]", "overlap=0", "epochs=3"]
    return load_segment("small", [*tiny, "validate_epochs=1", "warmup_epochs=0", *settings])


@pytest.fixture
def scans(tmp_path: Path) -> LabelledScans:
    """Four random volumes with a structure on each side."""
    rng = np.random.default_rng(0)
    labels = np.zeros((EDGE,) * 3, np.uint16)
    labels[3:6, 6:10, 6:10], labels[10:13, 6:10, 6:10] = 48, 47
    volumes = [rng.random((EDGE,) * 3, dtype=np.float32) * 0.3 + 0.5 * (labels > 0) for _ in "abcd"]
    people = pd.DataFrame({"scan_id": list("abcd"), "participant_id": list("abcd")})
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True, label_names=NAMES)
    cohort = write_cohort(tmp_path / "c", contract, volumes, people, labels=[labels] * 4)
    return LabelledScans.open(cohort, "hippocampus", 2.0, torch.device("cpu"))


def fitting(
    scans: LabelledScans, folder: Path, config: SegmentConfig, judged: tuple[int, ...] = ()
) -> Fit:
    network = empty(Architecture("unet", 3, SIZES), 0)
    return Fit(network, scans, Task([0, 1, 2], judged, 0, "full", folder), config, bf16=False)


@pytest.mark.parametrize("judged", [(), (3,)])
def test_the_average_is_judged_kept_and_left_in_the_network(
    scans: LabelledScans,
    tmp_path: Path,
    judged: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights that come out are those of a formula followed beside the training."""
    config = config_of("average=0.6")
    fit = fitting(scans, tmp_path / "fit", config, judged)
    beside = {k: v.detach().clone() for k, v in fit.network.named_parameters()}
    history, steps = [], iter(range(1000))
    real = fit_module.follow

    def watched(average: torch.nn.Module, network: torch.nn.Module, **given: float) -> None:
        step = next(steps)
        assert given == {"decay": 0.6, "step": step}
        d = min(0.6, (1 + step) / (10 + step))
        for name, value in network.named_parameters():
            beside[name] = d * beside[name] + (1 - d) * value.detach()
        history.append({k: v.clone() for k, v in beside.items()})
        real(average, network, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(fit_module, "follow", watched)
    fitted = fit.run()
    assert len(history) == fitted.steps == 3 * fit.per_epoch
    wanted = history[fitted.epoch * fit.per_epoch - 1]
    for name, value in fit.network.named_parameters():
        torch.testing.assert_close(value.detach(), wanted[name], rtol=1e-5, atol=1e-6)
    if judged:
        assert fitted.dice == pytest.approx(fit.judge(judged))  # the weights left are those judged


def test_without_an_average_the_weights_themselves_are_left(
    scans: LabelledScans, tmp_path: Path
) -> None:
    fit = fitting(scans, tmp_path / "fit", config_of("average=0"))
    assert fit.average is None
    last: dict[str, torch.Tensor] = {}
    fit.run(
        lambda done, text: last.update({k: v.clone() for k, v in fit.network.state_dict().items()})
    )
    assert all(torch.equal(v, last[k]) for k, v in fit.network.state_dict().items())


def tumours(folder: Path, where: str, config: SegmentConfig) -> tuple[Fit, list[np.ndarray]]:
    """A fit on scans that are y or n in ``where``, and the masks it is made to tell of them."""
    labels = [np.zeros((EDGE,) * 3, np.uint16) for _ in where]
    for own, has in zip(labels, where, strict=True):
        own[5:8, 5:8, 5:8] = has == "y"
    labels[0][10:12, 10:12, 10:12] = 2  # a second structure, of a scan that is not judged
    ids = [f"s{i}" for i in range(len(where))]
    people = pd.DataFrame({"scan_id": ids, "participant_id": ids})
    contract = Contract(size=EDGE, spacing=2.0, fit="pad", synthetic=True)
    volumes = [np.full((EDGE,) * 3, 0.1 * i + 0.1, np.float32) for i in range(len(where))]
    cohort = write_cohort(folder / "t", contract, volumes, people, labels=labels)
    wanted = {"tumour": 1, "cyst": 2}
    scans = LabelledScans.open(cohort, wanted, 2.0, torch.device("cpu"), absent=True)
    told = [np.zeros((EDGE,) * 3, np.int64) for _ in where]
    judged = range(1, len(where))
    network = empty(Architecture("unet", 3, SIZES), 0)
    task = Task([0], judged, 0, "full", folder / "fit")
    fit = Fit(network, scans, task, config, bf16=False)

    def tell(volume: torch.Tensor, **_: object) -> torch.Tensor:
        index = round(float(volume[0, 0, 0]) / 0.1) - 1
        return torch.nn.functional.one_hot(torch.from_numpy(told[index]), 3).permute(3, 0, 1, 2)

    fit.predict = tell  # type: ignore[method-assign, assignment]
    return fit, told


def test_outlining_nothing_earns_nothing_where_a_structure_may_be_absent(tmp_path: Path) -> None:
    fit, told = tumours(tmp_path, "nynnn", config_of())
    judged = fit.task.judged
    assert fit.judge(judged) == 0.0
    told[1][5:8, 5:8, 5:8] = 1
    assert fit.judge(judged) == 1.0
    told[3][0, 0, 0] = 1  # invented, as evaluate says
    assert fit.judge(judged) == 0.5
    told[3][0, 0, 0] = 2  # a structure that is in none of them
    assert fit.judge(judged) == 1.0


@pytest.mark.parametrize("stray", [False, True])
def test_scans_without_any_structure_choose_no_epoch(tmp_path: Path, stray: bool) -> None:
    fit, told = tumours(tmp_path, "ynn", config_of("average=0"))
    told[1][0, 0, 0] = stray
    assert fit.judge(fit.task.judged) is None
    said: list[str] = []
    fitted = fit.run(lambda done, text: said.append(text))
    assert (fitted.epoch, fitted.dice) == (3, None) and "Dice" not in "".join(said)


def test_where_all_have_all_structures_the_mean_is_of_all(scans: LabelledScans) -> None:
    fit = fitting(scans, scans.cohort.path / "fit", config_of("average=0"))
    wanted = []
    for index in (1, 3):
        found, truth = fit.predict(scans.volume(index)).argmax(0), scans.label(index)
        for c in (1, 2):
            one, other = found == c, truth == c
            both = int((one & other).sum())
            wanted.append(2 * both / int(one.sum() + other.sum()))
    assert fit.judge((1, 3)) == sum(wanted) / 4
