"""Label maps of anybody against a reference, in native space."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.evaluate import evaluate
from volta3d.evaluate.segmentation.labelsets import LabelSet, key_of
from volta3d.evaluate.segmentation.score import evaluate_reference, score_masks
from volta3d.evaluate.segmentation.summary import ALL, summarise
from volta3d.evaluate.segmentation.summary_lines import render

SPACING = np.diag([0.5, 1.0, 2.0, 1.0])


def save(path: Path, labels: np.ndarray, affine: np.ndarray = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = labels.dtype if labels.dtype.kind == "f" else np.uint8
    nib.save(nib.Nifti1Image(labels.astype(kind), affine), path)


def two(shift: int = 0) -> np.ndarray:
    labels = np.zeros((30, 16, 12), np.uint8)
    labels[4:10, 4:10, 3:8], labels[18 + shift : 24 + shift, 4:10, 3:8] = 17, 53
    return labels


def folders(tmp_path: Path) -> tuple[Path, Path]:
    reference, arm = tmp_path / "manual", tmp_path / "freesurfer"
    for n in range(6):
        save(reference / f"sub-{n}" / f"sub-{n}_desc-manual_dseg.nii.gz", two())
        save(arm / f"sub-{n}_aseg.nii.gz", two(shift=n % 3))
    (reference / "dseg.tsv").write_text(
        "index\tname\n17\tLeft-Hippocampus\n53\tRight-Hippocampus\n"
    )
    return reference, arm


def test_scores_are_in_millimetres_and_cubic_millimetres() -> None:
    truth = two() == 53
    found = two(shift=2) == 53
    scored = score_masks(found, truth, (0.5, 1.0, 2.0), 1.0)
    assert scored["status"] == "ok"
    assert scored["dice"] == pytest.approx(4 / 6)
    assert scored["hd95_mm"] == pytest.approx(1.0)  # two voxels of half a millimetre
    assert scored["reference_mm3"] == scored["mm3"] == 6 * 6 * 5


@pytest.mark.parametrize(
    ("found", "truth", "status", "dice"),
    [(0, 1, "missed", 0.0), (1, 0, "invented", 0.0), (0, 0, "absent", math.nan)],
)
def test_T10_missed_invented_and_absent_structures_are_told_apart(
    found: int, truth: int, status: str, dice: float
) -> None:
    full, empty = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    scored = score_masks((empty, full)[found], (empty, full)[truth], (1.0, 1.0, 1.0), 1.0)
    assert scored["status"] == status
    assert scored["dice"] == pytest.approx(dice, nan_ok=True)
    assert math.isnan(scored["hd95_mm"]) and math.isnan(scored["msd_mm"])


def test_any_label_maps_are_scored_by_the_same_rule(tmp_path: Path) -> None:
    reference, arm = folders(tmp_path)
    scored = evaluate_reference(reference, [arm], tmp_path / "out")
    left = scored.cases[scored.cases["structure"] == "Left-Hippocampus"]
    right = scored.cases[scored.cases["structure"] == "Right-Hippocampus"]
    assert (left["dice"] == 1).all()
    assert sorted(right["dice"].round(4)) == [0.6667, 0.6667, 0.8333, 0.8333, 1.0, 1.0]
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found = kept["results"]["freesurfer"]["Right-Hippocampus"]
    assert found["dice"]["mean"] == pytest.approx(right["dice"].mean())
    assert found["dice"]["low"] < found["dice"]["mean"] < found["dice"]["high"]
    (again,) = evaluate([arm], reference=reference)
    assert again["results"]["freesurfer"][ALL]["cases"] == 6
    assert "freesurfer" in render(again)


def test_label_maps_on_another_grid_are_brought_onto_the_reference_s(tmp_path: Path) -> None:
    reference, arm = folders(tmp_path)
    flipped = SPACING @ nib.orientations.inv_ornt_aff(
        np.array([[0, -1], [2, 1], [1, 1]], float), (30, 16, 12)
    )
    turned = nib.orientations.apply_orientation(two(), np.array([[0, -1], [2, 1], [1, 1]], float))
    save(arm / "sub-0_aseg.nii.gz", turned, flipped)
    scored = evaluate_reference(reference, [arm])
    first = scored.cases[scored.cases["case"] == "sub-0"]
    assert first["resampled"].all() and (first["dice"] == 1).all()


def test_what_cannot_be_scored_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    reference, arm = folders(tmp_path)
    (arm / "sub-0_aseg.nii.gz").unlink()
    save(arm / "sub-1_aseg.nii.gz", two().astype(np.float32) + 0.25)
    far = SPACING.copy()
    far[:3, 3] = 900.0
    save(arm / "sub-2_aseg.nii.gz", two(), far)
    (arm / "sub-3_aseg.nii.gz").write_bytes(b"nothing")
    scored = evaluate_reference(reference, [arm])
    said = {p["case"]: p["what"] for p in scored.unmatched}
    assert sorted(said) == ["sub-0", "sub-1", "sub-2", "sub-3"]
    assert "no label map" in said["sub-0"] and "fractions" in said["sub-1"]
    assert "overlap" in said["sub-2"]
    assert set(scored.cases["case"]) == {"sub-4", "sub-5"}


def test_nothing_in_common_is_one_error(tmp_path: Path) -> None:
    reference, _ = folders(tmp_path)
    save(tmp_path / "other" / "sub-x_dseg.nii.gz", two())
    with pytest.raises(VoltaError, match="No label map could be scored"):
        evaluate_reference(reference, [tmp_path / "other"])
    with pytest.raises(VoltaError, match="No label maps there"):
        LabelSet.open(tmp_path / "nowhere")
    save(tmp_path / "twice" / "sub-x_a.nii.gz", two())
    save(tmp_path / "twice" / "sub-x_b.nii.gz", two())
    with pytest.raises(VoltaError, match="Two label maps"):
        LabelSet.open(tmp_path / "twice")
    save(tmp_path / "odd" / "sub-x.nii.gz", np.where(two() > 0, 5, 0).astype(np.uint8))
    with pytest.raises(UsageError, match="not clear"):
        evaluate_reference(reference, [tmp_path / "odd"])


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("sub-1/ses-2/anat/sub-1_ses-2_desc-volta3d_dseg.nii.gz", "sub-1_ses-2"),
        ("fs/bert/mri/aseg.nii.gz", "bert"),
        ("bert/mri/aparc+aseg.nii.gz", "bert"),
        ("OAS1_0061_labels.nii.gz", "OAS1_0061"),
        ("ADNI_002_S_0295_hippocampus.nii", "ADNI_002_S_0295"),
    ],
)
def test_label_maps_are_paired_by_whose_they_are(path: str, key: str) -> None:
    assert key_of(Path("x") / path, Path("x")) == key


def test_the_summary_counts_what_it_leaves_out_and_tests_pairs() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(12):
        for arm, base in (("good", 0.9), ("bad", 0.8)):
            missed = arm == "bad" and n == 0
            rows.append(
                {
                    "arm": arm, "case": f"c{n}", "subject": f"s{n}", "structure": "a",
                    "status": "missed" if missed else "ok",
                    "dice": 0.0 if missed else base + rng.uniform(-0.03, 0.03),
                    "hd95_mm": np.nan if missed else 2.0 - base,
                    "msd_mm": np.nan if missed else 0.4,
                    "reference_mm3": 100.0 + n, "mm3": 0.0 if missed else 102.0 + n,
                }
            )  # fmt: skip
    summary = summarise(pd.DataFrame(rows))
    bad = summary["results"]["bad"]["a"]
    assert (bad["missed"], bad["hd95_mm"]["n"], bad["dice"]["n"]) == (1, 11, 12)
    assert summary["results"]["good"]["a"]["error_mm3"]["mean"] == pytest.approx(2.0)
    assert summary["results"]["good"]["a"]["volume_r"]["mean"] == pytest.approx(1.0)
    tests = {t["metric"]: t for t in summary["tests"]}
    assert tests["dice"]["n"] == 12 and tests["hd95_mm"]["n"] == 11
    # twelve pairs all on one side: 2 / 2^12; Holm doubles the smaller of two
    assert tests["dice"]["p"] == pytest.approx(2 / 2**12)
    assert tests["dice"]["p_holm"] == pytest.approx(4 / 2**12)


def test_paired_differences_have_the_mean_and_the_spread_of_the_pairs() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.uniform(0.8, 0.9, 20), rng.uniform(0.6, 0.9, 20)
    rows = [
        {
            "arm": arm, "case": f"c{n}", "subject": f"s{n}", "structure": "a", "status": "ok",
            "dice": dice[n], "hd95_mm": 2.0 - 0.5 * (arm == "good"), "msd_mm": 0.4,
            "reference_mm3": 100.0, "mm3": 100.0,
        }
        for arm, dice in (("good", good), ("bad", bad))
        for n in range(20)
    ]  # fmt: skip
    tests = {t["metric"]: t for t in summarise(pd.DataFrame(rows))["tests"]}
    dice, hd95 = tests["dice"], tests["hd95_mm"]
    assert dice["difference"] == pytest.approx((good - bad).mean())
    # a bootstrap interval of a mean is near the normal one: 1.96 standard errors, give or take
    half = 1.96 * (good - bad).std() / math.sqrt(20)
    assert dice["low"] == pytest.approx(dice["difference"] - half, abs=0.3 * half)
    assert dice["high"] == pytest.approx(dice["difference"] + half, abs=0.3 * half)
    assert (hd95["difference"], hd95["low"], hd95["high"]) == pytest.approx((-0.5, -0.5, -0.5))


def test_arms_without_a_case_in_common_have_no_difference() -> None:
    """Every structure missed by one arm: no distance to compare, and no crash."""
    rows = [
        {
            "arm": arm, "case": f"c{n}", "subject": f"s{n}", "structure": "a",
            "status": "missed" if arm == "blind" else "ok", "dice": 0.0 if arm == "blind" else 0.8,
            "hd95_mm": np.nan if arm == "blind" else 1.0, "msd_mm": 0.4,
            "reference_mm3": 100.0, "mm3": 100.0,
        }
        for arm in ("good", "blind")
        for n in range(6)
    ]  # fmt: skip
    tests = {t["metric"]: t for t in summarise(pd.DataFrame(rows))["tests"]}
    assert tests["hd95_mm"]["n"] == 0 and math.isnan(tests["hd95_mm"]["difference"])
    assert tests["dice"]["difference"] == pytest.approx(0.8)
