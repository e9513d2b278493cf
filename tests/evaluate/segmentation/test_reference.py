"""``evaluate --reference``: anybody's folders, by whatever names, numbers and formats."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.segmentation.score import evaluate_reference
from volta3d.evaluate.segmentation.summary import ALL
from volta3d.evaluate.segmentation.summary_lines import render

NAMED = "index\tname\n48\tLeft-Hippocampus\n47\tRight-Hippocampus\n"
PARTS = "index\tname\n1\tAnterior\n2\tPosterior\n"


def two(left: int, right: int, missing: int = 0) -> np.ndarray:
    """Two boxes; ``missing`` planes of the right one are left out."""
    labels = np.zeros((16, 16, 16), np.int32)
    labels[3:6, 5:11, 5:9], labels[10:13, 5 + missing : 11, 5:9] = left, right
    return labels


def save(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.MGHImage if path.suffix == ".mgz" else nib.Nifti1Image
    nib.save(image(labels, np.eye(4)), path)


def folder(root: Path, names: list[str], labels: tuple[int, int], table: str = "") -> Path:
    """Label maps of these names, each a little worse on the right than the one before."""
    for number, name in enumerate(names):
        save(root / name, two(*labels, missing=number % 4))
    if table:
        (root / "dseg.tsv").write_text(table)
    return root


def freesurfer(root: Path, people: int = 3) -> Path:
    """SUBJECTS_DIR: 17 and 53 as the reference has 48 and 47, and the cerebellum elsewhere."""
    for number in range(people):
        labels = two(17, 53)
        labels[1:3, 1:9, 1:4] = 47
        save(root / f"sub-{number}" / "mri" / "aseg.mgz", labels)
        save(root / f"sub-{number}" / "mri" / "orig.mgz", labels)
    return root


def sub(count: int, ending: str = "dseg") -> list[str]:
    return [f"sub-{n}_{ending}.nii.gz" for n in range(count)]


@pytest.mark.parametrize("name", ["hippocampus_{:03d}.nii.gz", "ADNI_002_S_{:04d}_seg.nii.gz"])
def test_cases_without_sub_are_subjects_of_their_own(tmp_path: Path, name: str) -> None:
    names = [name.format(n) for n in range(8)]
    truth = folder(tmp_path / "ref", names, (1, 2), PARTS)
    one = folder(tmp_path / "one", names, (1, 2), PARTS)
    other = folder(tmp_path / "other", names, (1, 2), PARTS)
    for number in range(8):
        save(truth / names[number], two(1, 2))
        save(other / names[number], two(1, 2, missing=3))
    scored = evaluate_reference(truth, [one, other])
    assert scored.cases["subject"].nunique() == 8
    found = scored.summary["results"]["one"]["Posterior"]
    assert found["subjects"] == 8 and found["dice"]["low"] < found["dice"]["high"]
    assert all(t["n"] == 8 and not math.isnan(t["p"]) for t in scored.summary["tests"])


def test_scans_of_one_person_are_one_subject(tmp_path: Path) -> None:
    names = [f"sub-{n}_ses-{s}_dseg.nii.gz" for n in "ab" for s in "12"]
    truth = folder(tmp_path / "ref", names, (48, 47), NAMED)
    scored = evaluate_reference(truth, [folder(tmp_path / "one", names, (48, 47), NAMED)])
    assert set(scored.cases["subject"]) == {"sub-a", "sub-b"}


@pytest.mark.parametrize("where", ["ref", "."])
def test_a_table_beside_the_reference_tells_whose_scans_are_whose(
    tmp_path: Path, where: str
) -> None:
    names = ["OAS1_0061_MR1.nii.gz", "OAS1_0061_MR2.nii.gz", "scan_7.nii.gz", "other.nii.gz"]
    truth = folder(tmp_path / "ref", names, (48, 47), NAMED)
    table = "participant_id\tscan_id\nsub-OAS1_0061\t\nP3\tscan-7\nOAS1\t\n"
    (tmp_path / where / "participants.tsv").write_text(table)
    cases = evaluate_reference(truth, [folder(tmp_path / "a", names, (48, 47), NAMED)]).cases
    found = dict(zip(cases["case"], cases["subject"], strict=True))
    assert found == {
        "OAS1_0061_MR1": "sub-OAS1_0061",
        "OAS1_0061_MR2": "sub-OAS1_0061",
        "scan_7": "P3",
        "other": "other",
    }


def test_folders_of_one_name_are_told_apart_by_where_they_lie(tmp_path: Path) -> None:
    truth = folder(tmp_path / "ref", sub(4), (48, 47), NAMED)
    given = [folder(tmp_path / p, sub(4), (48, 47), NAMED) for p in ("a/pred", "b/pred", "c")]
    save(given[1] / "sub-0_dseg.nii.gz", two(48, 47, missing=3))
    results = evaluate_reference(truth, given).summary["results"]
    assert list(results) == ["a", "b", "c"]
    assert results["a"][ALL]["dice"]["mean"] == 1.0 > results["b"][ALL]["dice"]["mean"]
    deep = [given[0], folder(tmp_path / "a/pred/pred", sub(4), (48, 47), NAMED)]
    with pytest.raises(VoltaError, match="Two label maps"):  # one lies in the other
        evaluate_reference(truth, deep)
    with pytest.raises(UsageError, match="twice"):
        evaluate_reference(truth, [given[2], tmp_path / "a" / ".." / "c"])


def test_what_predict_wrote_is_scored_against_plainly_named_references(tmp_path: Path) -> None:
    plain = [f"hippocampus_{n:03d}.nii.gz" for n in range(4)]
    truth = folder(tmp_path / "labelsTr", plain, (1, 2), PARTS)
    told = [
        f"sub-hippocampus{n:03d}/anat/sub-hippocampus{n:03d}_desc-volta3d_dseg.nii.gz"
        for n in range(4)
    ]
    arm = folder(tmp_path / "told", told, (1, 2), PARTS)
    scored = evaluate_reference(truth, [arm])
    assert scored.unmatched == [] and (scored.cases["dice"] == 1).all()
    assert scored.cases["case"].iloc[0] == "hippocampus_000"
    for name in plain:  # the scans beside their label maps
        (truth / name).rename(truth / name.replace(".nii", "_dseg.nii"))
        save(truth / name, np.full((16, 16, 16), 200, np.int32))
    assert (evaluate_reference(truth, [arm]).cases["dice"] == 1).all()


def test_references_with_entities_that_predictions_dropped(tmp_path: Path) -> None:
    truth = folder(tmp_path / "ref", sub(3, "acq-mprage_run-1_dseg"), (48, 47), NAMED)
    arm = folder(tmp_path / "arm", sub(3, "desc-volta3d_dseg"), (48, 47), NAMED)
    assert len(evaluate_reference(truth, [arm]).cases) == 6
    save(truth / "sub-0_acq-mprage_run-2_dseg.nii.gz", two(48, 47))
    scored = evaluate_reference(truth, [arm])
    alone = {p["case"]: p["what"] for p in scored.unmatched}
    assert len(alone) == 3 and set(scored.cases["case"]) == {
        "sub-1_acq-mprage_run-1", "sub-2_acq-mprage_run-1",
    }  # fmt: skip


@pytest.mark.parametrize("table", [NAMED, ""], ids=["dseg.tsv", "numbers alone"])
def test_each_folder_s_hippocampi_have_its_own_numbers(tmp_path: Path, table: str) -> None:
    truth = folder(tmp_path / "manual", sub(3), (48, 47), table)
    for name in sub(3):
        save(truth / name, two(48, 47))
    surfer = freesurfer(tmp_path / "freesurfer")
    flat = tmp_path / "flat"
    for number in range(3):
        save(flat / f"sub-{number}_aseg.mgz", two(17, 53))
    plain = folder(tmp_path / "plain", sub(3, "aseg"), (17, 53))
    scored = evaluate_reference(truth, [surfer, flat, plain])
    assert scored.unmatched == [] and scored.summary["findings"] == []
    good = scored.cases[scored.cases["arm"] != "plain"]
    assert len(good) == 12 and (good["dice"] == 1).all()
    left = scored.cases[scored.cases["structure"] == "Left-Hippocampus"]
    assert len(left) == 9 and (left["dice"] == 1).all()


def test_freesurfer_as_the_reference(tmp_path: Path) -> None:
    arm = folder(tmp_path / "manual", sub(2), (48, 47), NAMED)
    scored = evaluate_reference(freesurfer(tmp_path / "fs", 2), [arm])
    assert set(scored.cases["structure"]) == {"Left-Hippocampus", "Right-Hippocampus"}
    assert scored.cases["dice"].min() > 0.8


def test_numbers_that_mean_something_else_in_a_folder_are_noticed(tmp_path: Path) -> None:
    truth = folder(tmp_path / "manual", sub(3), (48, 47))
    arm = folder(tmp_path / "arm", sub(3), (48, 47))
    surfer = freesurfer(tmp_path / "freesurfer")
    asked = {"left": 48, "right": 47}
    summary = evaluate_reference(truth, [arm, surfer], labels=asked).summary
    said = {(f["arm"], f["structure"]): f["what"] for f in summary["findings"]}
    assert list(said) == [("freesurfer", "left"), ("freesurfer", "right")]
    assert "'left' (label 48) is in none of 3" in said["freesurfer", "left"]
    assert "'right' (label 47) overlaps the reference in none of 3" in said["freesurfer", "right"]
    assert all("--labels" in f["how_to_fix"] for f in summary["findings"])
    assert "'right' (label 47) overlaps" in render(summary)


def test_a_folder_without_names_means_what_its_partner_s_names_say(tmp_path: Path) -> None:
    named = folder(tmp_path / "named", sub(3), (1, 2), PARTS)
    bare = folder(tmp_path / "bare", sub(3), (1, 2))
    for truth, arm in ((named, bare), (bare, named)):
        cases = evaluate_reference(truth, [arm]).cases
        assert list(cases["structure"])[:2] == ["Anterior", "Posterior"]
        assert (cases["dice"] == 1).all()
    with pytest.raises(UsageError, match="not clear"):
        evaluate_reference(bare, [folder(tmp_path / "bare2", sub(3), (1, 2))])
    other = "index\tname\n2\tAnterior\n1\tPosterior\n"
    arms = [named, folder(tmp_path / "turned", sub(3), (1, 2), other)]
    with pytest.raises(UsageError, match="not clear"):  # the two don't agree
        evaluate_reference(bare, arms)


def test_front_and_back_are_no_left_and_right(tmp_path: Path) -> None:
    truth = folder(tmp_path / "named", sub(3), (1, 2), PARTS)
    with pytest.raises(VoltaError, match="no counterpart"):
        evaluate_reference(truth, [folder(tmp_path / "fs", sub(3), (17, 53))])


def test_cases_that_an_arm_lacks_are_counted_and_said(tmp_path: Path) -> None:
    truth = folder(tmp_path / "ref", sub(8), (48, 47), NAMED)
    full = folder(tmp_path / "full", sub(8), (48, 47), NAMED)
    easy = folder(tmp_path / "easy", sub(8), (48, 47), NAMED)
    for number in range(3):
        (easy / f"sub-{number}_dseg.nii.gz").unlink()
    save(full / "sub-9_dseg.nii.gz", two(48, 47))  # no reference: nothing is missed
    none = folder(tmp_path / "none", sub(1), (48, 47), NAMED)
    (none / "sub-0_dseg.nii.gz").write_bytes(b"")
    (none / "dseg.tsv").write_text(NAMED)
    scored = evaluate_reference(truth, [full, easy, none], tmp_path / "out")
    results = scored.summary["results"]
    counts = {(a, s): m["unscored"] for a, by in results.items() for s, m in by.items()}
    assert set(counts.values()) == {0, 3} and counts["easy", ALL] == 3 and counts["full", ALL] == 0
    assert {t["n"] for t in scored.summary["tests"]} == {5}
    text = render(scored.summary)
    assert "easy: 3 of 8 cases have no score" in text and "unscored" in text
    assert [f["arm"] for f in scored.summary["findings"]] == ["none"]
    assert "None of its label maps could be scored" in text
    whole = evaluate_reference(truth, [full])
    assert "unscored" not in render(whole.summary)
