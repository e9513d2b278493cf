"""Tables that people made (RELIABILITY T), in whatever dialect, with whatever mistakes."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.prepare import prepare, tables
from volta3d.prepare.layouts import adni, aibl, discover, ixi
from volta3d.prepare.scan import Scan
from volta3d.prepare.tables import person, read_table, table_columns

Make = Callable[..., Path]
SMALL = PrepareConfig(size=24, spacing=2.5)


def codes(scan: Scan) -> set[str]:
    return {f.code for f in scan.findings}


def test_T1_a_scan_without_a_row_is_prepared_and_flagged(
    bids: Callable[..., Path], tmp_path: Path
) -> None:
    root = bids(3)
    table = root / "participants.tsv"
    table.write_text("\n".join(table.read_text().splitlines()[:3]) + "\n")
    result = prepare([root], tmp_path / "c", config=SMALL)
    people = Cohort.open(result.cohort).participants
    assert result.prepared == 3 and result.findings["no-participant-row"] == 1
    assert people["sex"].tolist()[2] == "" and math.isnan(people["age"][2])
    assert "no-participant-row" in people["findings"][2]


def test_T2_ids_that_differ_by_case_are_one_row_and_flagged(
    bids: Callable[..., Path], nifti: Make
) -> None:
    root = bids(1, labels=False)
    (root / "participants.tsv").write_text("participant_id\tage\nSUB-01\t30\nsub-01\t31\n")
    (found,) = discover(root).scans
    assert found.age == 31 and "repeated-participant" in codes(found)  # the one written alike
    # two folders that differ by case are two people, and say so
    nifti(root / "sub-aB/anat/sub-aB_T1w.nii.gz")
    nifti(root / "sub-AB/anat/sub-AB_T1w.nii.gz")
    scans = discover(root).scans
    assert len({s.scan_id.casefold() for s in scans}) == len(scans)
    flagged = {s.participant_id for s in scans if "ids-differ-by-case" in codes(s)}
    assert flagged == {"sub-aB", "sub-AB"}


def test_T3_an_unexpected_label_is_kept_and_named(
    bids: Callable[..., Path], tmp_path: Path
) -> None:
    root = bids(2)
    (root / "derivatives/hand/dseg.tsv").write_text("index\tname\n47\tRight-Hippocampus\n")
    result = prepare([root], tmp_path / "c", config=SMALL)
    assert result.findings["unexpected-label"] == 2
    label = Cohort.open(result.cohort).label(0)
    assert label is not None and 48 in np.unique(label)
    again = prepare([root], tmp_path / "c", config=SMALL)
    assert again.skipped == 2 and again.findings["unexpected-label"] == 2


def test_T3_new_names_are_looked_at_again(bids: Callable[..., Path], tmp_path: Path) -> None:
    root = bids(1)
    names = root / "derivatives/hand/dseg.tsv"
    good = names.read_text()
    names.write_text("index\tname\n47\tRight-Hippocampus\n")
    prepare([root], tmp_path / "c", config=SMALL)
    names.write_text(good)
    result = prepare([root], tmp_path / "c", config=SMALL)
    assert "unexpected-label" not in result.findings
    assert set(Cohort.open(result.cohort).contract.label_names) == {47, 48}


@pytest.mark.parametrize("layout", [adni, aibl, ixi], ids=lambda m: m.__name__.split(".")[-1])
def test_T7_archives_that_code_sex_as_1_and_2_mean_male_and_female(layout: object) -> None:
    levels = layout.SEX_LEVELS  # type: ignore[attr-defined]
    assert [person([{"sex": code}], levels).sex for code in "12"] == ["M", "F"]


def test_T7_a_code_that_nobody_explains_is_not_guessed() -> None:
    for code in ("0", "1", "2"):
        found = person([{"sex": code}])
        assert found.sex == "" and "sex-unknown" in {f.code for f in found.findings}


@pytest.mark.parametrize(
    ("column", "value", "sex"),
    [
        ("sex_id (1=m, 2=f)", "1", "M"),
        ("sex_id (1=m, 2=f)", "2", "F"),
        ("sex (0=female 1=male)", "0", "F"),
        ("gender", "Woman", "F"),
        ("ptgender", "Male", "M"),
        ("sex", "x", ""),
        ("sexual_orientation", "m", ""),
    ],
)
def test_T7_a_column_s_name_may_explain_its_codes(column: str, value: str, sex: str) -> None:
    assert person([{column: value}]).sex == sex


def dialects() -> Iterator[tuple[str, bytes]]:
    rows = [
        ["participant_id", "age", "site"],
        ["sub-01", "30.5", "Zürich, Süd"],
        ["sub-02", "n/a", ""],
    ]
    for name, separator in (("tab", "\t"), ("comma", ","), ("semicolon", ";")):
        lines = [[f'"{c}"' if separator in c else c for c in row] for row in rows]
        for ending_name, ending in (("lf", "\n"), ("crlf", "\r\n")):
            text = ending.join(separator.join(line) for line in lines) + ending
            for code in ("utf-8", "utf-8-sig", "utf-16", "latin-1"):
                yield f"{name}-{ending_name}-{code}", text.encode(code)
            told = f"sep={separator}{ending}{text}"
            yield f"{name}-{ending_name}-told", told.encode("utf-8-sig")


@pytest.mark.parametrize(
    ("name", "raw"), list(dialects()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_T8_byte_order_marks_line_ends_and_separators(
    tmp_path: Path, name: str, raw: bytes
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    assert read_table(path) == [
        {"participant_id": "sub-01", "age": "30.5", "site": "Zürich, Süd"},
        {"participant_id": "sub-02", "age": "", "site": ""},
    ]
    assert table_columns(path) == {"participant_id", "age", "site"}


def test_T8_decimal_commas_and_text_where_a_number_belongs() -> None:
    assert person([{"age": "35,8"}]).age == 35.8
    for text in ("old", "-4", "999", "1e400", "nan"):
        assert math.isnan(person([{"age": text}]).age)


def biff8(rows: list[list[str | float]]) -> bytes:
    """The bytes of an .xls workbook with one sheet, by the records' and the container's layout."""

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    start = struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0)
    sheet = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0))
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            place = struct.pack("<HHH", r, c, 0)
            if isinstance(value, str):
                text = value.encode("ascii")
                sheet += record(0x0204, place + struct.pack("<HB", len(text), 0) + text)
            else:
                sheet += record(0x0203, place + struct.pack("<d", value))
    sheet += record(0x000A, b"")
    name = struct.pack("<BB", 5, 0) + b"Sheet"
    head = len(record(0x0809, start)) + len(record(0x0085, bytes(6) + name)) + 4
    book = record(0x0809, start) + record(0x0085, struct.pack("<IBB", head, 0, 0) + name)
    stream = (book + record(0x000A, b"") + sheet).ljust(4096, b"\0")
    sectors = len(stream) // 512  # the stream from sector 2 on, after the FAT and the directory
    fat = [0xFFFFFFFD, 0xFFFFFFFE, *range(3, 2 + sectors), 0xFFFFFFFE]
    fat += [0xFFFFFFFF] * (128 - len(fat))

    def entry(name: str, kind: int, child: int, first: int, size: int) -> bytes:
        label = (name + "\0").encode("utf-16-le") if name else b""
        body = label.ljust(64, b"\0") + struct.pack("<HBB", len(label), kind, 1)
        body += struct.pack("<iii", -1, -1, child) + bytes(36)
        return body + struct.pack("<IQ", first, size)

    folder = entry("Root Entry", 5, 1, 0xFFFFFFFE, 0) + entry("Workbook", 2, -1, 2, len(stream))
    folder += 2 * entry("", 0, -1, 0, 0)
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", 0, *[0xFFFFFFFF] * 108)
    return header + struct.pack("<128I", *fat) + folder + stream


def xlsx(rows: list[list[str | float]], dates: bool = False) -> bytes:
    """The bytes of an .xlsx workbook with one sheet; numbers are dates if wanted."""
    cells = "".join(
        "<row>"
        + "".join(
            f'<c t="inlineStr"><is><t>{v}</t></is></c>'
            if isinstance(v, str)
            else f'<c s="{int(dates)}"><v>{v}</v></c>'
            for v in row
        )
        + "</row>"
        for row in rows
    )
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packed = "http://schemas.openxmlformats.org/package/2006"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{packed}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{packed}/relationships"><Relationship Id="r" '
        f'Type="{kinds}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{kinds}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{packed}/relationships">'
        f'<Relationship Id="r1" Type="{kinds}/worksheet" Target="worksheets/s.xml"/>'
        f'<Relationship Id="r2" Type="{kinds}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet {main}><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
        "</cellXfs></styleSheet>",
        "xl/worksheets/s.xml": f"<worksheet {main}><sheetData>{cells}</sheetData></worksheet>",
    }
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return held.getvalue()


@pytest.mark.parametrize(("ending", "make"), [("xls", biff8), ("xlsx", xlsx)])
def test_T8_workbooks_old_and_new_are_read(
    tmp_path: Path, ending: str, make: Callable[[list[list[str | float]]], bytes]
) -> None:
    path = tmp_path / f"IXI.{ending}"
    path.write_bytes(make([["IXI_ID", "SEX_ID (1=m, 2=f)", "AGE"], [2.0, 2.0, 35.8], [12.0, 1.0]]))
    sex = "sex_id (1=m, 2=f)"
    assert read_table(path) == [
        {"ixi_id": "2", sex: "2", "age": "35.8"},
        {"ixi_id": "12", sex: "1", "age": ""},
    ]


def test_T8_dates_of_a_workbook_are_text(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(xlsx([["STUDY_DATE"], [38674.0]], dates=True))
    assert read_table(path) == [{"study_date": "2005-11-18"}]


@pytest.mark.parametrize("raw", [b"", b"not a workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 80])
def test_T8_a_damaged_workbook_is_one_clear_error(
    tmp_path: Path, raw: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "IXI.xls"
    path.write_bytes(raw)
    with pytest.raises(CohortError, match="CSV"):
        read_table(path)
    assert capfd.readouterr() == ("", "")  # the library's own remarks stay away


ODD = ["a b", "Ü—ñ", "it's (1)", "semi;colon", 'quote"d', "tab\tbed", "%20#?&", "-dash", "=1+1"]


@pytest.mark.parametrize("name", ODD)
def test_T9_odd_paths_are_prepared_and_safe_in_the_tables(
    tmp_path: Path, nifti: Make, name: str
) -> None:
    root = tmp_path / name
    nifti(root / f"{name}.nii.gz")
    result = prepare([root], tmp_path / "c", config=SMALL)
    people = Cohort.open(result.cohort).participants
    assert result.prepared == 1 and len(people) == 1
    scan_id = people["scan_id"][0]
    assert scan_id.isascii() and not set(scan_id) & set(" ;'\"\t%#?&=()/")
    assert not people["participant_id"][0].startswith(("=", "-", "+", "@"))
    assert (result.cohort / "qc" / f"{scan_id}.png").is_file()


def test_T10_an_absent_class_is_told_and_its_name_kept(
    bids: Callable[..., Path], tmp_path: Path
) -> None:
    root = bids(1)
    names = root / "derivatives/hand/dseg.tsv"
    names.write_text(names.read_text() + "53\tRight-Amygdala\n")
    result = prepare([root], tmp_path / "c", config=SMALL)
    assert result.findings["absent-label"] == 1
    assert 53 in Cohort.open(result.cohort).contract.label_names


def test_an_atlas_of_many_names_is_not_expected_to_be_complete() -> None:
    from volta3d.prepare.labels import about_names

    labels = np.zeros((4, 4, 4), np.uint16)
    labels[0, 0, 0] = 1
    many = {k: f"region {k}" for k in range(1, 60)}
    assert about_names(labels, many) == []
    assert about_names(labels, {}) == [] and about_names(None, many) == []


def test_T8_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('participant_id\tsex\tnote\nsub-01\tM\t"moved\nsub-02\tF\t"ok" so"\n')
    rows = read_table(path)
    assert [(r["participant_id"], r["sex"]) for r in rows] == [("sub-01", "M"), ("sub-02", "F")]
    assert rows[0]["note"] == "moved"
    path = tmp_path / "t.csv"  # here a cell may have several lines
    path.write_text('id,note,sex\n1,"a, b\nc",M\n2,x,F\n')
    assert [(r["note"], r["sex"]) for r in read_table(path)] == [("a, b\nc", "M"), ("x", "F")]
    path.write_text('id,note,sex\n1,"a,M\n2,x,F\n')
    assert [r["sex"] for r in read_table(path)] == ["M", "F"]


def test_T8_columns_apart_by_spaces(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("participant_id sex  age\nsub-01 M 30\nsub-02 F 31\n")
    assert read_table(path)[1] == {"participant_id": "sub-02", "sex": "F", "age": "31"}
    path.write_text("subject id\nanna maria b\n")  # one column whose name has a space
    assert read_table(path) == [{"subject id": "anna maria b"}]


def test_T8_a_comma_in_a_header_is_no_separator(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('id;"age, in years, at scan";sex\n1;30;M\n')
    assert read_table(path) == [{"id": "1", "age, in years, at scan": "30", "sex": "M"}]


def test_T8_names_of_rows_are_left_away(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"  # as R writes it: the header has one cell less
    path.write_text('"participant_id" "age"\n"1" "sub-01" 30\n"2" "sub-02" 31\n')
    assert [r["age"] for r in read_table(path)] == ["30", "31"]


def test_T8_nothing_is_taken_of_a_row_with_too_many_cells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("participant_id,site,sex,age\ns1,Bonn, Nord,M,30\ns2,Ulm,F,31\n")
    first, second = read_table(path)
    assert person([second]).age == 31
    found = person([first])
    assert found.sex == "" and math.isnan(found.age)
    assert "row-too-long" in {f.code for f in found.findings}


def test_T8_of_two_columns_of_one_name_the_first_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("participant_id\tparticipant_id\tsex\nsub-001\tCQ2\tF\n")
    assert read_table(path) == [{"participant_id": "sub-001", "sex": "F"}]


def test_missing_values_are_empty_however_they_are_written() -> None:
    assert {"", "n/a", "nan", "unknown"} <= tables.MISSING
