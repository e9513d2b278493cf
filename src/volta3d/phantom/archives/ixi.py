"""IXI: ``IXI002-Guys-0828-T1.nii.gz`` of three hospitals, and the table IXI.csv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from volta3d.phantom.archives.scans import SCANNER_BASES, Camera, people, save, table

BASE = SCANNER_BASES["ixi"]
HOSPITALS = {
    "Guys": replace(BASE, name="Guys"),
    "HH": replace(BASE, name="HH", noise=0.02, grey=0.69, gain=700.0, tesla=3.0),
    "IOP": replace(BASE, name="IOP", noise=0.026, fluid=0.22, bias=0.06),
}
HEAD = ["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID",
        "OCCUPATION_ID", "QUALIFICATION_ID", "DOB", "DATE_AVAILABLE", "STUDY_DATE",
        "AGE"]  # fmt: skip
AGES = (20.0, 86.0)
PER_SIZE = 20


def write_ixi(root: Path, camera: Camera, size: int) -> None:
    """The T1 scans as the archive's tar holds them, and its table as CSV.

    As in the real one: a person with two rows, one without a row, a sex that is 0, an age that is
    missing, rows of people without a scan.
    """
    count = PER_SIZE * size
    names = [f"IXI{2 + 5 * n:03d}" for n in range(count)]
    rows: list[list[object]] = []
    for n, person in enumerate(people("ixi", names, AGES, camera.seed)):
        hospital = list(HOSPITALS)[(n // 2) % 3]
        taken = camera.take(person, HOSPITALS[hospital])
        file = f"{person.name}-{hospital}-{828 + 13 * n:04d}-T1.nii.gz"
        save(root / file, taken.image, taken.affine)
        sex = 0 if n % 20 == 11 else "MF".index(person.sex) + 1
        age: object = "" if n % 20 == 17 else person.age
        number = int(person.name[3:])
        row: list[object] = [number, sex, 170, 70, 1, 2, 1, 5, "", 1, "2005-11-18", age]
        empty: list[object] = [number, sex, 0, 0, 0, 0, 0, 0, "", 0, "", ""]
        if n % 20 != 13:
            rows += [empty, row] if n % 20 == 5 else [row]
        rows += [[number + 1, 1, 0, 0, 0, 0, 0, 0, "", 0, "", 44.2]] if n % 10 == 0 else []
    table(root / "IXI.csv", HEAD, rows)
