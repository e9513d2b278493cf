"""Which scans have which label, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import ClassifyConfig, load_classify, parse_yaml
from volta3d.downstream.classification.labels import read_labels
from volta3d.errors import UsageError


def cohort_of(folder: Path, **columns: Any) -> Cohort:
    """A cohort of tiny empty cubes with these columns; extra ones are written beside."""
    count = len(next(iter(columns.values())))
    people = pd.DataFrame(
        {"scan_id": [f"scan{i:02d}" for i in range(count)], "dataset": "set", **columns}
    )
    if "participant_id" not in people:
        people["participant_id"] = [f"sub-{i:02d}" for i in range(count)]
    volumes = np.zeros((count, 2, 2, 2), np.float32)
    return write_cohort(folder, Contract(size=2, spacing=60.0), volumes, people)


def config(**settings: Any) -> ClassifyConfig:
    return ClassifyConfig(folds=2, **settings)


def test_T1_missing_labels_are_recorded_drops(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F", "M", "", "F", "M", "n/a"])
    found = read_labels(cohort, "sex", config())
    assert found.scan_ids == ("scan00", "scan01", "scan03", "scan04")
    assert found.labels == ("F", "M") and found.values.tolist() == [0, 1, 0, 1]
    assert [(d["scan_id"], d["reason"]) for d in found.dropped] == [
        ("scan02", "no-label"),
        ("scan05", "no-label"),
    ]


def test_T1_a_scan_without_a_row_in_the_own_table_is_a_recorded_drop(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F", "M"] * 3)
    table = tmp_path / "labels.csv"
    rows = ["participant_id;Score", *(f"{i:02d};{'yes' if i % 2 else 'no'}" for i in range(5))]
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())  # as a spreadsheet writes it
    found = read_labels(cohort, "Score", config(), table)
    assert found.labels == ("no", "yes") and found.values.tolist() == [0, 1, 0, 1, 0]
    assert found.dropped == (
        {"scan_id": "scan05", "reason": "no-row", "what": "It has no row in labels.csv"},
    )


def test_T2_a_subject_twice_in_the_own_table_is_refused_if_the_labels_differ(
    tmp_path: Path,
) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F", "M"] * 3)
    table = tmp_path / "labels.tsv"
    lines = [f"sub-{i:02d}\t{i % 2}" for i in range(6)]
    table.write_text("participant_id\tgroup\n" + "\n".join([*lines, "SUB-01\t1"]) + "\n")
    assert len(read_labels(cohort, "group", config(), table).rows) == 6
    table.write_text("participant_id\tgroup\n" + "\n".join([*lines, "SUB-01\t0"]) + "\n")
    with pytest.raises(UsageError, match="01 twice: 1 and 0"):
        read_labels(cohort, "group", config(), table)


def test_T4_float_labels_are_the_same_classes(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", diagnosis=["0", "1.0", "0.0", "1", "0", "1"])
    found = read_labels(cohort, "diagnosis", config())
    assert found.labels == ("0", "1") and found.values.tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (("No", "Yes", "Maybe"), "[No, Yes]"),
        (("010", "020", "030"), "[010, 020]"),
        (("010", "10", "20"), "[010, 10]"),
        (("1.0", "2.0", "3.0"), "[1.0, 2.0]"),
        (("on", "off", "x"), "[on, off]"),
        (("null", "~", "true"), "[null, true]"),
        (("None", "NA", "x"), "[None, NA]"),
        (("1e3", "2e3", "x"), "[1e3, 2e3]"),
    ],
    ids=str,
)
def test_T3_names_of_classes_are_text(
    tmp_path: Path, values: tuple[str, ...], classes: str
) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F"] * 12)
    table = tmp_path / "labels.csv"
    lines = [f"sub-{i:02d},{values[i % 3]}" for i in range(12)]
    table.write_text("participant_id,y\n" + "\n".join(lines) + "\n")
    asked = load_classify("small", ["folds=2", f"classes={classes}"])
    found = read_labels(cohort, "y", asked, table)
    assert found.labels == tuple(classes.strip("[]").split(", ")) and len(found.rows) == 8
    # and out of the YAML file that a run writes
    assert ClassifyConfig(**parse_yaml(asked.to_yaml(), where="run")) == asked


def test_T3_a_class_may_be_called_by_its_number(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", diagnosis=["1.0", "2.0"] * 3)
    assert read_labels(cohort, "diagnosis", config(classes=("2", "1"))).labels == ("2.0", "1.0")
    assert config(classes=(1, 2)).classes == ("1", "2")


def test_T7_sex_is_what_prepare_made_of_each_archive_s_coding(tmp_path: Path) -> None:
    # IXI's table has 1 = male, 2 = female; a cohort holds F and M, and M is the positive class
    cohort = cohort_of(tmp_path / "c", sex=["M", "F", "M", "F"])
    found = read_labels(cohort, "sex", config())
    assert found.labels[-1] == "M" and found.values.tolist() == [1, 0, 1, 0]


def test_T3_controls_come_first_so_that_the_disease_is_positive(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", diagnosis=["CN", "AD", "MCI"] * 4)
    assert read_labels(cohort, "diagnosis", config()).labels == ("CN", "AD", "MCI")
    found = read_labels(cohort, "diagnosis", config(classes=("CN", "AD")))
    assert found.labels == ("CN", "AD") and len(found.rows) == 8
    assert {d["reason"] for d in found.dropped} == {"other-class"} and len(found.dropped) == 4
    assert read_labels(cohort, "diagnosis", config(classes=("AD", "CN"))).labels[-1] == "CN"
    with pytest.raises(UsageError, match=r"'MCI'"):
        read_labels(cohort, "diagnosis", config(classes=("CN", "MCII")))


def test_numbers_are_regression_unless_told_otherwise(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", age=[20.0 + i // 3 for i in range(12)])
    found = read_labels(cohort, "age", config())
    assert found.kind == "regression" and found.labels == () and found.values[-1] == 23
    found = read_labels(cohort, "age", config(task="classification"))
    assert found.labels == ("20", "21", "22", "23")
    cohort = cohort_of(tmp_path / "d", sex=["F", "M"] * 3)
    with pytest.raises(UsageError, match="'F' is not a number"):
        read_labels(cohort, "sex", config(task="regression"))


def test_L1_subjects_are_told_apart_without_case_and_copies_are_one(tmp_path: Path) -> None:
    cohort = cohort_of(
        tmp_path / "c",
        participant_id=["sub-a", "SUB-A", "sub-b", "sub-c", "sub-d", "sub-e"],
        source_sha256=["1", "2", "3", "4", "4", ""],
        sex=["F", "F", "M", "M", "M", "F"],
    )
    found = read_labels(cohort, "sex", config())
    assert found.subjects == ("sub-a", "sub-a", "sub-b", "sub-c", "sub-c", "sub-e")
    assert found.findings == ("sub-c and sub-d share an image: taken as one subject",)
    assert found.where(["sub-a", "sub-e"]).tolist() == [0, 1, 5]


def test_a_subject_with_two_labels_is_refused_or_left_out(tmp_path: Path) -> None:
    people = [f"sub-{i // 2:02d}" for i in range(12)]
    sex = ["F", "F", "F", "M"] + ["M", "M", "F", "F"] * 2
    cohort = cohort_of(tmp_path / "c", participant_id=people, sex=sex)
    with pytest.raises(UsageError, match=r"1 subjects have two labels; the first is F and M"):
        read_labels(cohort, "sex", config())
    found = read_labels(cohort, "sex", config(conflicts="drop"))
    assert [d["scan_id"] for d in found.dropped] == ["scan02", "scan03"]
    assert {d["reason"] for d in found.dropped} == {"two-labels"}
    assert "sub-01" not in found.subjects


def test_L1_one_image_under_two_names_has_one_label(tmp_path: Path) -> None:
    sex = ["F", "M", "F", "M", "F", "M"]
    cohort = cohort_of(tmp_path / "c", sex=sex, source_sha256=["1", "1", "2", "3", "4", "5"])
    with pytest.raises(UsageError, match="two labels"):
        read_labels(cohort, "sex", config())
    found = read_labels(cohort, "sex", config(conflicts="drop"))
    assert [d["scan_id"] for d in found.dropped] == ["scan00", "scan01"]


def test_L1_an_id_of_two_data_sets_is_two_people_unless_it_says_more(tmp_path: Path) -> None:
    cohort = cohort_of(
        tmp_path / "c",
        participant_id=["sub-01", "sub-01", "sub-02", "002_S_0295", "sub-ADNI002S0295", "sub-03"],
        dataset=["a", "b", "a", "ADNI", "HarP", "b"],
        sex=["F", "M", "M", "F", "F", "M"],
    )
    found = read_labels(cohort, "sex", config())
    assert found.subjects[:3] == ("a:sub-01", "b:sub-01", "sub-02")
    assert found.subjects[3] == found.subjects[4] == "002_s_0295"
    assert found.findings == (
        "1 ids occur in several data sets, the first sub-01: taken as different people",
        "1 people are in several data sets, the first 002_s_0295: each is one subject",
    )


def test_a_table_of_one_s_own_says_which_of_two_people_it_means(tmp_path: Path) -> None:
    people, sets = ["01", "01", "02", "03", "04", "05"], ["a", "b", "a", "a", "b", "b"]
    cohort = cohort_of(tmp_path / "c", participant_id=people, dataset=sets)
    table = tmp_path / "labels.tsv"
    rows = [f"{p}\t{d}\t{'FM'[i % 2]}" for i, (p, d) in enumerate(zip(people, sets, strict=True))]
    table.write_text("\n".join(["participant_id\tdataset\tgroup", *rows]))
    found = read_labels(cohort, "group", config(), table)
    assert found.values.tolist() == [0, 1, 0, 1, 0, 1]
    table.write_text("participant_id\tgroup\n01\tF\n02\tM\n")
    with pytest.raises(UsageError, match="several people of the cohort have that id"):
        read_labels(cohort, "group", config(), table)


def test_a_table_about_other_scans_shows_an_id_of_each_side(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F", "M"] * 3)
    table = tmp_path / "labels.csv"
    table.write_text("participant_id,group\nX-1,F\nX-2,M\n")
    with pytest.raises(UsageError, match="participant_id is X-1, the cohort's is sub-00"):
        read_labels(cohort, "group", config(), table)


def test_a_subject_s_number_may_change_between_sessions(tmp_path: Path) -> None:
    people = [f"sub-{i // 2:02d}" for i in range(12)]
    cohort = cohort_of(tmp_path / "c", participant_id=people, age=[30.0 + i for i in range(12)])
    assert read_labels(cohort, "age", config()).by_subject()["sub-00"] == 30.5


@pytest.mark.parametrize(
    ("columns", "target", "settings", "words"),
    [
        ({"sex": ["F", "M"] * 3}, "sax", {}, "Did you mean 'sex'"),
        ({"sex": ["F", "M"] * 3}, "diagnosis", {}, "No scan has a value"),
        ({"sex": ["F"] * 6}, "sex", {}, "1 classes"),
        ({"sex": ["F", "f", "M", "M", "F", "f"]}, "sex", {}, "only by case"),
        ({"sex": ["F", "F", "F", "F", "F", "M"]}, "sex", {}, "Class M has 1 subjects"),
        ({"age": [30.0, 31, 32]}, "age", {}, "too few"),
        ({"age": [30.0] * 9}, "age", {"task": "regression"}, "too few"),
    ],
)
def test_T10_what_cannot_be_predicted_is_one_paragraph(
    tmp_path: Path, columns: dict[str, Any], target: str, settings: dict[str, Any], words: str
) -> None:
    cohort = cohort_of(tmp_path / "c", **columns)
    with pytest.raises(UsageError, match=words):
        read_labels(cohort, target, config(**settings))


def test_an_own_table_that_cannot_be_used_is_one_paragraph(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path / "c", sex=["F", "M"] * 3)
    table = tmp_path / "labels.tsv"
    table.write_text("participant_id\tgroup\nsub-01\t1\n")
    with pytest.raises(UsageError, match=r"Did you mean 'group'"):
        read_labels(cohort, "grup", config(), table)
    table.write_text("name\tgroup\nsub-01\t1\n")
    with pytest.raises(UsageError, match="names no scans"):
        read_labels(cohort, "group", config(), table)
