"""OASIS-3: what its folders and its tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from volta3d.prepare.layouts import detect, discover


def test_oasis_3_joins_its_tables_by_the_days_since_entry(oasis3: Path) -> None:
    scans = {s.scan_id: s for s in discover(oasis3).scans}
    first = "oasis3_OAS30001_d0129_01"
    assert set(scans) == {
        first, "oasis3_OAS30001_d0129_02", "oasis3_OAS30001_d2430", "oasis3_OAS30024_d0084"
    }  # fmt: skip
    one, late, other = scans[first], scans["oasis3_OAS30001_d2430"], scans["oasis3_OAS30024_d0084"]
    assert (one.participant_id, one.session, one.run) == ("OAS30001", "d0129", "01")
    assert (one.sex, one.age, one.diagnosis) == ("F", 65.54, "Cognitively normal")
    assert late.age == 71.84 and late.diagnosis == "AD Dementia"
    # not among the demographics: sex stays unknown, the age is that of the visit
    assert (other.sex, other.age, other.diagnosis) == ("", 71.5, "Cognitively normal")
    assert {f.code for f in other.findings} >= {"no-participant-row", "sex-unknown"}


def test_a_diagnosis_more_than_a_year_away_is_not_that_of_the_scan(oasis3: Path) -> None:
    table = oasis3 / "OASIS3_data_files" / "OASIS3_UDSb4_cdr.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], rows[2]]))
    assert {s.diagnosis for s in discover(oasis3).scans} == {"", "AD Dementia"}


@pytest.mark.parametrize("given", ["scans", "."])
def test_tables_are_found_below_and_beside(oasis3: Path, given: str) -> None:
    assert detect(oasis3 / given) == "oasis3"
    assert {s.sex for s in discover(oasis3 / given).scans} == {"F", ""}
    deep = oasis3 / "scans" / "demo-demographics" / "resources" / "csv" / "files"
    deep.mkdir(parents=True)
    tables = oasis3 / "OASIS3_data_files"
    (tables / "OASIS3_demographics.csv").rename(deep / "OASIS3_demographics.csv")
    assert {s.sex for s in discover(oasis3 / given).scans} == {"F", ""}
