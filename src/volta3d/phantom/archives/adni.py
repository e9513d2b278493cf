"""ADNI (DICOM folders of the IDA, search table, ADNIMERGE) and HarP (some of the same people)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from volta3d.phantom.anatomy import LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS
from volta3d.phantom.archives.dicom import write_series
from volta3d.phantom.archives.scans import SCANNER_BASES, Camera, Person, Taken, people, save, table

SEARCH = ["Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description",
          "Type", "Acq Date", "Format", "Downloaded"]  # fmt: skip
MERGE = ["RID", "COLPROT", "ORIGPROT", "PTID", "SITE", "VISCODE", "EXAMDATE", "DX_bl", "AGE",
         "PTGENDER", "PTEDUCAT", "APOE4", "IMAGEUID", "DX"]  # fmt: skip
GROUPS = ("CN", "LMCI", "AD", "SMC", "EMCI")
DX = {"CN": "CN", "SMC": "CN", "EMCI": "MCI", "LMCI": "MCI", "AD": "Dementia"}
STAGES = {"CN": "CN", "SMC": "SMC", "EMCI": "MCI", "LMCI": "MCI", "AD": "AD"}
SCANNERS = (
    SCANNER_BASES["adni"],
    replace(SCANNER_BASES["adni"], name="adni-3T", noise=0.02, grey=0.70, gain=520.0, tesla=3.0),
)
AGES = (56.0, 89.0)
PER_SIZE = 12  # people of ADNI
HARP_PER_SIZE = 8  # of them, these are in HarP
HUNDRED = 0.75  # of HarP's people are in the release of 100, the others in that of 35


def adni_people(size: int, seed: int) -> list[tuple[Person, str]]:
    """The people of ADNI with their groups; HarP's come first."""
    count = PER_SIZE * size
    names = [f"{2 + n % 50:03d}_S_{295 + 37 * n:04d}" for n in range(count)]
    return [
        (person, GROUPS[n % len(GROUPS)])
        for n, person in enumerate(people("adni", names, AGES, seed))
    ]


def write_adni(root: Path, camera: Camera, size: int) -> None:
    """``ADNI/<PTID>/<description>/<day_time>/<image id>/*.dcm`` with both tables beside it.

    As in the real one: a repeat on the same day, a processed copy, a later visit, other contrasts,
    a person whom the search table lacks and one whom ADNIMERGE lacks.
    """
    searched, merged = list[list[object]](), list[list[object]]()
    for n, (person, group) in enumerate(adni_people(size, camera.seed)):
        day = date(2006, 3, 1) + timedelta(days=41 * n)
        scanner = SCANNERS[n % 2]
        first = camera.take(person, scanner, diagnosis=STAGES[group])
        scans = [("MP-RAGE", day, 13000 + 10 * n, first, "sc", person.age)]
        if n % 4 == 1:
            again = camera.take(person, scanner, diagnosis=STAGES[group], n=1)
            scans.append(("MP-RAGE_REPEAT", day, 13001 + 10 * n, again, "sc", person.age))
        if n % 4 == 3:
            later = camera.take(person, scanner, diagnosis=STAGES[group], years=2)
            when = day + timedelta(days=731)
            scans.append(("MP-RAGE", when, 13002 + 10 * n, later, "m24", person.age + 2))
        for about, when, image_id, taken, visit, age in scans:
            _series(root, person, about, when, image_id, taken)
            words = [about.replace("_", " "), "Original", _american(when), "DCM", ""]
            about_person = [person.name, group, person.sex, f"{age:.0f}", visit, "MRI"]
            row: list[object] = [f"I{image_id}", *about_person, *words]
            searched += [row] if n % 8 != 6 else []
            if n % 8 != 7:
                code = "bl" if visit == "sc" else visit
                male = "Male" if person.sex == "M" else "Female"
                merged.append(
                    [int(person.name[-4:]), "ADNI1", "ADNI1", person.name, int(person.name[:3]),
                     code, (when + timedelta(days=5)).isoformat(), group, person.age, male, 16,
                     n % 3, image_id, DX[group]]
                )  # fmt: skip
        if n % 8 == 0:  # another contrast, which nobody asked for
            other = f"{root.name}_{person.name}_MR_Axial_T2-FLAIR_Br_S1_I{13009 + 10 * n}.nii"
            folder = root / "ADNI" / person.name / "Axial_T2-FLAIR" / _moment(day)
            save(folder / f"I{13009 + 10 * n}" / other, first.image[::2], first.affine)
    table(root / "ADNI1_Screening_1.5T_11_25_2026.csv", SEARCH, searched, quote=True)
    table(root / "ADNIMERGE.csv", MERGE, merged, quote=True)


def write_harp(root: Path, camera: Camera, size: int) -> None:
    """HarP: the scans as NIfTI in an ADNI tree, two label files a scan, and those with CSF.

    The label files count their voxels from left to right whatever the scan does. One person's right
    side was lost in the download.
    """
    chosen = adni_people(size, camera.seed)[: HARP_PER_SIZE * size]
    for n, (person, group) in enumerate(chosen):
        day = date(2006, 3, 1) + timedelta(days=41 * n)
        taken = camera.take(person, SCANNERS[n % 2], diagnosis=STAGES[group])  # as in ADNI
        image_id = 13000 + 10 * n
        about = "MPR__GradWarp__B1_Correction__N3"
        name = f"ADNI_{person.name}_MR_{about}_Br_20070217025521280_S13407_I{image_id}.nii.gz"
        folder = root / "ADNI" / person.name / about / _moment(day) / f"I{image_id}"
        save(folder / name, taken.image, taken.affine)
        part = "Labels_100_NIFTI" if n < HUNDRED * len(chosen) else "Labels_35_NIFTI"
        for side, value in (("L", LEFT_HIPPOCAMPUS), ("R", RIGHT_HIPPOCAMPUS)):
            if n == len(chosen) - 1 and side == "R":
                continue
            mask = (taken.labels == value).astype("uint8")
            base = root / part / f"ADNI_{person.name}_{image_id}_{side}"
            save(base.with_name(base.name + ".nii.gz"), mask, taken.affine, "LAS")
            save(base.with_name(base.name + "_CSF.nii.gz"), mask, taken.affine, "LAS")


def _series(root: Path, person: Person, about: str, day: date, image_id: int, taken: Taken) -> None:
    folder = root / "ADNI" / person.name / about / _moment(day) / f"I{image_id}"
    names = f"ADNI_{person.name}_MR_{about}_br_raw_20070217025521280_{{}}_S13407_I{image_id}"
    write_series(folder, names.format(1), taken.image, taken.affine, person, about)


def _moment(day: date) -> str:
    return f"{day.isoformat()}_08_20_30.0"


def _american(day: date) -> str:
    return f"{day.month}/{day.day:02d}/{day.year}"
