"""Numbers behind pictures: planes, principal components, running means, methods text."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from volta3d.report.figures_curves import quick_probe, smooth, thin
from volta3d.report.figures_embedding import project
from volta3d.report.figures_tokens import components
from volta3d.report.figures_volumes import spread
from volta3d.report.methods import methods
from volta3d.report.references import REFERENCES, Cited, number_citations
from volta3d.report.runfolder import read_run
from volta3d.report.style import number


def test_the_map_keeps_distances_of_flat_features() -> None:
    draws = np.random.default_rng(0)
    flat = draws.normal(size=(20, 2)) @ np.linalg.qr(draws.normal(size=(8, 8)))[0][:2]
    place = project(flat)

    def distances(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(x[:, None] - x[None], axis=-1))

    np.testing.assert_allclose(distances(place.points), distances(flat), atol=1e-9)
    assert place.explained.sum() == pytest.approx(1)
    assert place.explained[0] >= place.explained[1]
    np.testing.assert_allclose(project(flat + 7).points, place.points, atol=1e-9)


def test_background_tokens_decide_neither_components_nor_scale() -> None:
    draws = np.random.default_rng(1)
    tokens = draws.normal(size=(1, 64, 6)) * [5, 3, 2, 0.1, 0.1, 0.1]
    use = np.arange(64)[None] < 48
    wild = tokens.copy()
    wild[:, 48:] *= 1000
    colours, shares = components(tokens, use)
    again, same = components(wild, use)
    np.testing.assert_allclose(again[use], colours[use])
    np.testing.assert_allclose(same, shares)
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_the_running_mean_equals_a_loop() -> None:
    y = np.random.default_rng(2).normal(size=400)
    half = 4  # 400 // (2 * 50)
    loop = [y[max(i - half, 0) : i + half + 1].mean() for i in range(400)]
    np.testing.assert_allclose(smooth(np.arange(400), y)[1], loop)


def test_thinning_keeps_both_ends() -> None:
    x, y = thin(np.arange(5000.0), np.arange(5000.0))
    assert (x[0], x[-1], len(x)) == (0, 4999, 600)
    np.testing.assert_array_equal(x, y)


def test_epochs_are_spread_with_both_ends() -> None:
    assert spread(list(range(21)), 4) == [0, 7, 13, 20]
    assert spread([1, 2], 4) == [1, 2]


def test_the_untrained_line_is_epoch_0(made: dict[str, Path]) -> None:
    run = read_run(made["run"])
    found = quick_probe(run)
    first = run.epochs[0]["probe"]
    assert [limit.value for limit in found.before] == [first["token"]["r"], first["mean"]["r"]]
    assert quick_probe(type(run)(run.path, epochs=run.epochs[1:])).before == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9984, "0.998"),
        (12345, "12\u2009345"),
        (-0.5, "\u22120.500"),
        (1.5e-5, "1.50e\u22125"),
        (float("nan"), "\u2013"),
        (None, "\u2013"),
        (True, "\u2013"),
    ],
)
def test_numbers_are_readable(value: object, text: str) -> None:
    assert number(value) == text


def test_methods_tell_the_configuration_and_nothing_that_was_not_done(
    fabricate: ModuleType, tmp_path: Path
) -> None:
    with_koleo: dict[str, object] = {
        "objective.koleo": 0.1,
        "objective.cls_start_epoch": 10,
        "lr": 0.0003,
    }
    with_koleo["optim.momentum"] = "[0.9975,0.999]"
    run = read_run(fabricate.write_run(tmp_path / "a", **with_koleo))
    text = " ".join(methods(run, None, probed=False))
    assert "a KoLeo term, which kept" in text and "[@koleo] (weight 0.1)" in text
    assert "off before epoch 10" in text
    assert "momentum from 0.9975 to 0.999" in text  # .998 would be another setting
    assert "rose linearly to 0.0003" in text or "rose linearly to 3e\u22124" in text
    assert "124 synthetic T1-weighted" in text
    assert "probed" not in text
    assert "nearest neighbours" in " ".join(methods(run, None, probed=True))
    plain = read_run(fabricate.write_run(tmp_path / "b", **{"objective.koleo": 0.0}))
    assert "KoLeo" not in " ".join(methods(plain, None, probed=False))


def test_citations_are_numbered_as_they_come() -> None:
    [first, second], works = number_citations(["a [@vit] b [@dino,vit]", "c [@dino]"])
    assert works == [REFERENCES["vit"], REFERENCES["dino"]]
    assert first[1] == Cited((1,))
    assert first[3] == Cited((2, 1))
    assert second[1] == Cited((2,))
    with pytest.raises(KeyError):
        number_citations(["[@nobody]"])
