"""Participants and sessions out of the tables of a data set."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.bids_names import dataset_name
from volta3d.prepare.people import People
from volta3d.prepare.scan import slug
from volta3d.prepare.tables import Person


def look(
    root: Path,
    text: str,
    participant: str = "sub-01",
    session: str = "",
    others: tuple[str, ...] = (),
) -> tuple[Person, set[str], list[Finding]]:
    (root / "participants.tsv").write_text(text)
    found, findings = People(root, [participant, *others]).describe(participant, session)
    return found, {f.code for f in findings}, findings


LONG = (
    "participant_id\tsession\tage\tgroup\tsex\n"
    "sub-01\tses-a\t70.5\tMCI\tF\nsub-01\tses-b\t75.5\tAD\tF\n"
)


def test_one_row_a_session(tmp_path: Path) -> None:
    found, codes, _ = look(tmp_path, LONG, session="ses-b")
    assert (found.age, found.diagnosis, found.sex) == (75.5, "AD", "F") and not codes
    shorter = LONG.replace("ses-", "").replace("session", "visit")
    assert look(tmp_path, shorter, session="ses-b")[0].age == 75.5


@pytest.mark.parametrize("session", ["ses-c", ""])
def test_what_changes_is_not_taken_from_another_session(tmp_path: Path, session: str) -> None:
    found, codes, _ = look(tmp_path, LONG, session=session)
    assert math.isnan(found.age) and (found.diagnosis, found.sex) == ("", "F")
    assert codes == {"no-session-row"}
    one = "\n".join(LONG.splitlines()[:2]) + "\n"
    found, codes, _ = look(tmp_path, one, session="ses-c")
    assert math.isnan(found.age) and found.sex == "F" and codes == {"no-session-row"}


def test_a_table_of_sessions_beside_the_participants(tmp_path: Path) -> None:
    (tmp_path / "sessions.tsv").write_text(
        "participant_id\tsession_id\tage\nsub-01\tses-1\t4\nsub-01\tses-2\t6\n"
    )
    text = "participant_id\tsex\nsub-01\tM\n"
    found, codes, _ = look(tmp_path, text, session="ses-2")
    assert (found.age, found.sex) == (6, "M") and not codes


def test_a_table_of_sessions_in_the_subject_s_folder_goes_first(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01/sub-01_sessions.tsv").write_text("session_id\tage\nses-1\t4\nses-2\t6\n")
    found, _, _ = look(tmp_path, "participant_id\tage\nsub-01\t99\n", session="ses-2")
    assert found.age == 6


@pytest.mark.parametrize("column", ["subject", "Subject_ID", "id", "participant"])
def test_the_column_of_ids_may_be_called_otherwise(tmp_path: Path, column: str) -> None:
    assert look(tmp_path, f"{column}\tage\nsub-01\t30\n")[0].age == 30


def test_zeros_that_a_spreadsheet_lost(tmp_path: Path) -> None:
    found, codes, _ = look(tmp_path, "participant_id\tage\n1\t30\n2\t31\n", others=("sub-02",))
    assert found.age == 30 and not codes


def test_an_ambiguity_is_a_finding_and_nothing_is_taken(tmp_path: Path) -> None:
    found, codes, findings = look(tmp_path, "participant_id\tage\n1\t30\n001\t31\n")
    assert math.isnan(found.age) and codes == {"ambiguous-participant"}
    assert "1 and 001" in findings[0].what


def test_a_table_that_fits_nobody_says_so(tmp_path: Path) -> None:
    found, codes, findings = look(tmp_path, "participant_id\tage\nP77\t30\n")
    assert math.isnan(found.age) and codes == {"table-fits-nobody"}
    assert "P77" in findings[0].what and "sub-01" in findings[0].how_to_fix
    _, codes, findings = look(tmp_path, "code\tage\nsub-01\t30\n")
    assert codes == {"table-fits-nobody"} and "code, age" in findings[0].what


def test_T1_a_person_without_a_row_among_others(tmp_path: Path) -> None:
    _, codes, _ = look(tmp_path, "participant_id\tage\nsub-02\t30\n", others=("sub-02",))
    assert codes == {"no-participant-row"}


def test_a_long_name_of_a_data_set_leaves_room_for_the_participant(tmp_path: Path) -> None:
    name = dataset_name(tmp_path, {"Name": "A very " + "long " * 40 + "name"})
    assert slug(f"{name}_sub-0123456789_ses-baseline").endswith("_sub-0123456789_ses-baseline")
    assert dataset_name(tmp_path, {"Name": "Short, and more"}) == "short"
