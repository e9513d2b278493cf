"""Ages in whatever unit a table gives them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from volta3d.prepare.ages import age_in_years, unit_of_column, unit_of_sentence, unit_of_text
from volta3d.prepare.tables import person, read_columns


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("age", ""), ("age_years", "years"), ("age at scan", ""), ("ageatscan", ""),
        ("age_months", "months"), ("age (days)", "days"), ("age [w]", "weeks"), ("age_y", "years"),
        ("age_in_weeks", "weeks"), ("agemonths", "months"), ("age_at_visit_mo", "months"),
        ("subject_age", ""), ("age_at_scan (yrs)", "years"), ("aged", None), ("image", None),
        ("gestational_age", None), ("scan_age", None), ("age_group", None), ("percentage", None),
        ("language", None), ("birth_age_weeks", None), ("sex", None), ("", None),
    ],
)  # fmt: skip
def test_the_unit_in_a_column_s_name(column: str, unit: str | None) -> None:
    assert unit_of_column(column) == unit


@pytest.mark.parametrize(
    ("text", "units", "years"),
    [
        ("35,8", [], 35.8),
        ("034Y", [], 34.0),
        ("018M", [], 1.5),
        ("052W", [], 364 / 365.25),
        ("045D", [], 45 / 365.25),
        ("18 months", ["years"], 1.5),
        ("34 years old", [], 34.0),
        ("34-year", [], 34.0),
        ("18", ["months"], 1.5),
        ("10957.5", ["days"], 30.0),
        ("1440", ["months"], 120.0),
    ],
)
def test_an_age_becomes_years(text: str, units: list[str], years: float) -> None:
    assert age_in_years(text, units) == pytest.approx(years)


@pytest.mark.parametrize(
    ("text", "units"),
    [("old", []), ("-4", []), ("999", []), ("89+", []), ("30-35", []), ("3", ["unknown"]),
     ("30", ["years", "months"]), ("1441", ["months"]), ("34 parsecs", []), ("", [])],
)  # fmt: skip
def test_what_gives_no_age(text: str, units: list[str]) -> None:
    assert math.isnan(age_in_years(text, units))


def test_units_as_texts_and_in_sentences() -> None:
    assert [unit_of_text(t) for t in ("Years", "yr", "mo.", "", "decades")] == [
        "years", "years", "months", "", "unknown",
    ]  # fmt: skip
    assert unit_of_sentence("Age at the scan, in months") == "months"
    assert unit_of_sentence("Age in years, or months below two years") == ""


def read(folder: Path, content: object, row: dict[str, str]) -> tuple[float, str]:
    (folder / "participants.json").write_text(json.dumps(content))
    found = person([row], read_columns(folder / "participants.json"))
    return found.age, found.sex


def test_units_of_participants_json(tmp_path: Path) -> None:
    about = {"Age": {"Units": "months"}}
    assert read(tmp_path, about, {"age": "18"})[0] == 1.5
    assert read(tmp_path, {"age": {"Description": "Age in days"}}, {"age": "3652.5"})[0] == 10
    assert math.isnan(read(tmp_path, {"age": {"units": "decades"}}, {"age": "3"})[0])
    # the header says one thing, the json another
    assert math.isnan(read(tmp_path, {"age_months": {"Units": "y"}}, {"age_months": "3"})[0])


@pytest.mark.parametrize(
    "levels",
    [
        {"1": "male", "2": "female"},
        {"1": {"Description": "Male participant", "TermURL": "x:y"}, "2": {"Description": "woman"}},
        {"1": {"label": "M"}, "2": {"label": "F"}},
        {"male": 1, "female": 2},
    ],
)
@pytest.mark.parametrize("key", ["sex", "Sex", "GENDER"])
def test_T7_levels_as_words_or_objects_and_keys_in_any_case(
    tmp_path: Path, key: str, levels: dict[str, object]
) -> None:
    column = key.lower()
    for name in ("Levels", "levels"):
        about = {"age": {}, key: {name: levels}}
        assert read(tmp_path, about, {column: "1"})[1] == "M"
        assert read(tmp_path, about, {column: "2.0"})[1] == "F"
        assert read(tmp_path, about, {column: "3"})[1] == ""


def test_T7_a_level_of_both_sexes_is_none(tmp_path: Path) -> None:
    about = {"sex": {"Levels": {"1": "male or female", "2": {"Description": 7}}}}
    assert read(tmp_path, about, {"sex": "1"})[1] == read(tmp_path, about, {"sex": "2"})[1] == ""


def test_a_session_s_row_wins_whatever_its_column_is_called() -> None:
    assert person([{"age_months": "18"}, {"age": "40"}]).age == 1.5
    assert person([{"age_months": "18", "age": "2"}]).age == 2
