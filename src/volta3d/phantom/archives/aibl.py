"""AIBL: an IDA tree of plain numbers, several visits a person, and the clinic's tables."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from volta3d.phantom.archives.scans import SCANNER_BASES, Camera, people, save, table

# A person's diagnoses at bl, m18 and m36 ("" was not scanned); converters change theirs.
COURSES = (
    ("CN", "CN", ""), ("AD", "", ""), ("CN", "", ""), ("AD", "AD", ""),
    ("CN", "CN", "CN"), ("MCI", "AD", ""), ("CN", "", ""), ("AD", "", ""),
    ("CN", "MCI", "AD"), ("MCI", "", ""), ("CN", "", ""), ("AD", "", ""),
)  # fmt: skip
CODES = {"CN": 1, "MCI": 2, "AD": 3}
VISITS = ("bl", "m18", "m36")
WORDS = ("Baseline", "18 Month follow-up", "36 Month follow-up")
SEARCH = ["Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description",
          "Type", "Acq Date", "Format", "Downloaded"]  # fmt: skip
AGES = (61.0, 88.0)
PER_SIZE = 12


def write_aibl(root: Path, camera: Camera, size: int) -> None:
    """``AIBL/<RID>/<description>/<day_time>/<image id>/*.nii`` and tables named by their release.

    As in the real one: a visit without a diagnosis (-4), a scan whose day no table has, PET scans,
    a person without a row.
    """
    count = PER_SIZE * size
    found = people("aibl", [str(2 + 9 * n) for n in range(count)], AGES, camera.seed)
    demography, diagnoses, scanned, searched = (list[list[object]]() for _ in range(4))
    for n, person in enumerate(found):
        course, rid = COURSES[n % len(COURSES)], int(person.name)
        start = date(2007, 1, 9) + timedelta(days=17 * n)
        site, born = 1 + n % 2, start.year - int(person.age)
        known = n % 12 != 6
        if known:
            demography.append([rid, site, "bl", 1 if person.sex == "M" else 2, f"/{born}"])
        for number, diagnosis in enumerate(course):
            if not diagnosis:
                continue
            day = start + timedelta(days=548 * number)
            image_id, about = 92800 + 10 * n + number, "MPRAGE_ADNI_confirmed"
            scanner = SCANNER_BASES["aibl"]
            taken = camera.take(person, scanner, diagnosis=diagnosis, years=1.5 * number)
            name = f"AIBL_{rid}_MR_{about}_Br_20150101000000000_S20101_I{image_id}.nii"
            folder = root / "AIBL" / person.name / about / f"{day.isoformat()}_11_20_11.0"
            save(folder / f"I{image_id}" / name, taken.image, taken.affine)
            code = -4 if n % 12 == 4 and number == 1 else CODES[diagnosis]
            if known:
                diagnoses.append([rid, site, VISITS[number], code, -4])
            if n % 12 != 7:
                scanned.append([rid, site, VISITS[number], day.strftime("%m/%d/%Y"), 1])
            if n % 3 and n % 12 != 7:
                searched.append(
                    [image_id, person.name, "AIBL", person.sex, int(person.age + 1.5 * number),
                     WORDS[number], "MRI", about.replace("_", " "), "Original",
                     f"{day.month}/{day.day:02d}/{day.year}", "NiFTI", ""]
                )  # fmt: skip
            if n % 8 == 0 and number == 0:
                pet = root / "AIBL" / person.name / "PIB" / folder.name / f"I{image_id + 5}"
                save(pet / f"AIBL_{rid}_PT_PIB_I{image_id + 5}.nii", taken.image, taken.affine)
    tables = root / "Data_extract_3.3.0"
    visits, end = ["RID", "SITEID", "VISCODE"], "01-Jun-2018.csv"
    table(tables / f"aibl_ptdemog_{end}", [*visits, "PTGENDER", "PTDOB"], demography)
    table(tables / f"aibl_pdxconv_{end}", [*visits, "DXCURREN", "DXCONV"], diagnoses)
    table(tables / f"aibl_mrimeta_{end}", [*visits, "EXAMDATE", "MMSMPRAGE"], scanned[::4])
    rest = [row for number, row in enumerate(scanned) if number % 4]
    table(tables / f"aibl_mri3meta_{end}", [*visits, "EXAMDATE", "MMSMPRAGE"], rest)
    table(root / "idaSearch_11_25_2026.csv", SEARCH, searched, quote=True)
