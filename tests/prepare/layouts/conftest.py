"""Archives as they are downloaded: small generated trees with the names and tables of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volta3d.randomness import numpy_generator

Make = Callable[..., Path]
SEARCH = '"Image Data ID","Subject","Group","Sex","Age","Visit","Modality","Description","Type"'
SEARCH += ',"Acq Date","Format","Downloaded"\r\n'
ADNI_IMAGES = [
    ("002_S_0295", "MP-RAGE", "2006-04-18_08_20_30.0", "I13722"),
    ("002_S_0295", "MP-RAGE_REPEAT", "2006-04-18_08_20_30.0", "I13723"),
    ("002_S_0295", "Accelerated_Sagittal_IR-FSPGR", "2011-05-12_09_00_00.0", "I234567"),
    ("003_S_0907", "MPR____N3__Scaled", "2006-09-11_11_00_00.0", "S19039"),
    ("003_S_0907", "Axial_T2-FLAIR", "2006-09-11_11_00_00.0", "I99001"),
]


@pytest.fixture
def scan(nifti: Make, head: tuple[np.ndarray, np.ndarray]) -> Make:
    """scan(path): a small head with folds that depend on the file's name."""

    def write(path: Path) -> Path:
        rng = numpy_generator(path.name)
        coarse = rng.integers(-40, 41, [-(-n // 4) for n in head[0].shape])
        folds = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        folds = folds[tuple(slice(n) for n in head[0].shape)]
        data = head[0] + np.where(head[0] > 50, folds, 0)
        return nifti(path, data.astype(np.int16), head[1])

    return write


@pytest.fixture
def marks(nifti: Make, head: tuple[np.ndarray, np.ndarray]) -> Make:
    """marks(path, values): label map on the grid of ``scan``: {value: the x of its first voxel}."""

    def write(path: Path, values: dict[int, int]) -> Path:
        labels = np.zeros(head[0].shape, np.uint8)
        for value, x in values.items():
            labels[x : x + 3, 8:12, 8:12] = value
        return nifti(path, labels, head[1])

    return write


@pytest.fixture
def adni(tmp_path: Path, scan: Make) -> Path:
    """Two subjects in the IDA's tree; the search table beside it, ADNIMERGE in a folder of it."""
    root = tmp_path / "download" / "ADNI"
    for subject, description, moment, image in ADNI_IMAGES:
        name = f"ADNI_{subject}_MR_{description}_Br_20070217025521280_S13407_{image}.nii"
        if image.startswith("S"):
            name = name.replace(f"S13407_{image}", f"{image}_I40966")
        scan(root / subject / description / moment / image / name)
    rows = [
        '"I13722","002_S_0295","CN","M","85","sc","MRI","MP-RAGE","Original","4/18/2006","NiFTI",""',
        '"I40966","003_S_0907","MCI","F","88.2","sc","MRI","MPR; ; N3; Scaled","Processed",'
        '"9/11/2006","NiFTI","9/01/2026"',
    ]
    (root.parent / "ADNI1_T1_11_25_2026.csv").write_text(SEARCH + "\r\n".join(rows) + "\r\n")
    merge = (
        '"RID","PTID","VISCODE","SITE","EXAMDATE","DX_bl","AGE","PTGENDER","IMAGEUID","DX"\n'
        '295,"002_S_0295","bl",2,"2006-04-20","CN",84.8,"Male",13722,"CN"\n'
        '295,"002_S_0295","m60",2,"2011-05-10","CN",84.8,"Male",234567,"Dementia"\n'
        '907,"003_S_0907","bl",3,"2006-09-11","LMCI",88.2,"Female",,"MCI"\n'
    )
    (root / "tables").mkdir()
    (root / "tables" / "ADNIMERGE.csv").write_text(merge)
    return root


@pytest.fixture
def harp(tmp_path: Path, scan: Make, marks: Make) -> Path:
    """ADNI scans with left and right label files; one has lost its right side."""
    root = tmp_path / "HarP"
    images = [*ADNI_IMAGES[:2], ("003_S_0907", "MPR__GradWarp", "2006-09-11_11_00_00.0", "I40966")]
    for subject, description, moment, image in images:
        name = f"ADNI_{subject}_MR_{description}_Br_2007_S13407_{image}.nii"
        scan(root / "ADNI" / subject / description / moment / image / name)
    marks(root / "Labels_100_NIFTI" / "ADNI_002_S_0295_13722_L.nii", {1: 4})
    marks(root / "Labels_100_NIFTI" / "ADNI_002_S_0295_13722_R.nii", {1: 13})
    marks(root / "Labels_100_NIFTI" / "ADNI_002_S_0295_13722_L_CSF.nii", {1: 2})
    marks(root / "Labels_100_NIFTI" / "ADNI_003_S_0907_40966_L.nii", {1: 4})
    return root


@pytest.fixture
def aibl(tmp_path: Path, scan: Make) -> Path:
    """Three visits of two subjects, with the clinic's tables in a folder of the tree."""
    root = tmp_path / "AIBL"
    for subject, description, moment, image in [
        ("2", "MPRAGE_ADNI_confirmed", "2007-08-16_11_20_11.0", "I92891"),
        ("2", "MPRAGE_ADNI_confirmed", "2009-02-20_10_00_00.0", "I160001"),
        ("14", "MPRAGE_SAG_ISO_p2_ND", "2006-11-30_00_00_00.0", "I92900"),
        ("14", "PIB", "2006-11-30_00_00_00.0", "I92999"),
    ]:
        scan(root / subject / description / moment / image / f"AIBL_{subject}_MR_{image}.nii")
    tables = root / "Data_extract_3.3.0"
    tables.mkdir()
    for name, text in {
        "ptdemog": "RID,SITEID,VISCODE,PTGENDER,PTDOB\n2,2,bl,2,/1936\n14,1,bl,1,/1930\n",
        "pdxconv": "RID,SITEID,VISCODE,DXCURREN,DXCONV\n2,2,bl,1,-4\n2,2,m18,2,1\n"
        "14,1,bl,3,-4\n14,1,m18,-4,-4\n",
        "mrimeta": "RID,SITEID,VISCODE,EXAMDATE,MMSMPRAGE\n2,2,m18,02/20/2009,1\n",
        "mri3meta": "RID,SITEID,VISCODE,EXAMDATE,MMSMPRAGE\n2,2,bl,08/16/2007,1\n14,1,bl,-4,1\n",
    }.items():
        (tables / f"aibl_{name}_01-Jun-2018.csv").write_text(text)
    return root


@pytest.fixture
def brats(tmp_path: Path, scan: Make, marks: Make) -> Path:
    """GLI with two timepoints, MET without labels, PED of 2024."""
    root = tmp_path / "BraTS"
    for folder, case in [
        ("BraTS2024-BraTS-GLI-TrainingData", "BraTS-GLI-00005-100"),
        ("BraTS2024-BraTS-GLI-TrainingData", "BraTS-GLI-00005-101"),
        ("BraTS2023-MET-Challenge-TrainingData", "BraTS-MET-00001-000"),
    ]:
        for contrast in ("t1n", "t1c", "t2w", "t2f"):
            scan(root / folder / case / f"{case}-{contrast}.nii.gz")
        if "GLI" in case:
            marks(root / folder / case / f"{case}-seg.nii.gz", {1: 4, 3: 13})
    return root


@pytest.fixture
def ixi(tmp_path: Path, scan: Make) -> Path:
    """Four subjects of three hospitals; the table is a CSV of IXI.xls, semicolons and a mark."""
    root = tmp_path / "IXI-T1"
    for name in ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI035-IOP-0873", "IXI600-HH-9999"):
        scan(root / f"{name}-T1.nii.gz")
    scan(root / "IXI002-Guys-0828-T2.nii.gz")
    text = (
        "\ufeffIXI_ID;SEX_ID (1=m, 2=f);HEIGHT;ETHNIC_ID;DOB;DATE_AVAILABLE;STUDY_DATE;AGE\r\n"
        "2;2;164;1;1970-01-01;1;2005-11-18;35,80\r\n"
        "12;1;175;1;1966-08-20;1;2005-06-01;38,78\r\n"
        "35;0;0;0;;0;;\r\n35;1;180;1;1950-02-02;1;2006-01-03;55,9\r\n"
    )
    (root / "IXI.csv").write_bytes(text.encode())
    return root


@pytest.fixture
def msd(tmp_path: Path, scan: Make, marks: Make) -> Path:
    """Two training pairs and one that dataset.json lists without a file."""
    root = tmp_path / "Task04_Hippocampus"
    pairs = []
    for number in ("001", "003", "004"):
        image, label = f"imagesTr/hippocampus_{number}", f"labelsTr/hippocampus_{number}"
        pairs.append({"image": f"./{image}.nii.gz", "label": f"./{label}.nii.gz"})
        if number != "004":
            scan(root / f"{image}.nii.gz")
            marks(root / f"{label}.nii.gz", {1: 4, 2: 8})
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    content = {"name": "Hippocampus", "modality": {"0": "MRI"}, "labels": labels}
    (root / "dataset.json").write_text(json.dumps({**content, "training": pairs, "test": []}))
    return root


@pytest.fixture
def nnunet(tmp_path: Path, scan: Make, marks: Make) -> Path:
    """Two labelled cases as version 2 writes them, and one without a label map."""
    root = tmp_path / "Dataset007_Hippo"
    for case in ("hip_001", "hip_002", "hip_003"):
        scan(root / "imagesTr" / f"{case}_0000.nii.gz")
        if case != "hip_003":
            marks(root / "labelsTr" / f"{case}.nii.gz", {1: 4, 2: 13})
    content = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "left": 1, "right": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def oasis3(tmp_path: Path, scan: Make) -> Path:
    """Three sessions of two subjects as XNAT and its scripts leave them, the tables beside."""
    root = tmp_path / "OASIS3" / "scans"
    for session, folder, name in [
        ("OAS30001_MR_d0129", "anat2/NIFTI", "sub-OAS30001_sess-d0129_run-01_T1w"),
        ("OAS30001_MR_d0129", "anat3/NIFTI", "sub-OAS30001_sess-d0129_run-02_T1w"),
        ("OAS30001_MR_d0129", "anat1/NIFTI", "sub-OAS30001_sess-d0129_acq-TSE_T2w"),
        ("OAS30001_MR_d0129", "func1/NIFTI", "sub-OAS30001_sess-d0129_task-rest_bold"),
        ("OAS30001_MR_d2430", "anat1", "sub-OAS30001_sess-d2430_T1w"),
        ("OAS30024_MR_d0084", "anat4", "sub-OAS30024_sess-d0084_T1w"),
    ]:
        scan(root / session / folder / f"{name}.nii.gz")
    tables = root.parent / "OASIS3_data_files"
    tables.mkdir()
    (tables / "OASIS3_demographics.csv").write_text(
        "OASISID,AgeatEntry,AgeatDeath,GENDER,EDUC\nOAS30001,65.19,,2,12\n"
    )
    (tables / "OASIS3_UDSb4_cdr.csv").write_text(
        "OASISID,OASIS_session_label,days_to_visit,age at visit,CDRTOT,dx1\n"
        "OAS30001,OAS30001_UDSb4_d0000,0000,65.19,0,Cognitively normal\n"
        "OAS30001,OAS30001_UDSb4_d2500,2500,72.03,0.5,AD Dementia\n"
        "OAS30024,OAS30024_UDSb4_d0000,0000,71.5,0,Cognitively normal\n"
        "OAS30024,OAS30024_UDSb4_d0900,0900,74.0,1,AD Dementia\n"
    )
    return root.parent


@pytest.fixture
def caps(tmp_path: Path, scan: Make) -> Path:
    """Two sessions after t1-linear, one of them with the uncropped image too."""
    root = tmp_path / "caps"
    space = "space-MNI152NLin2009cSym"
    for session in ("ses-M000", "ses-M012"):
        folder = root / "subjects" / "sub-ADNI002S0295" / session / "t1_linear"
        base = f"sub-ADNI002S0295_{session}_{space}"
        scan(folder / f"{base}_desc-Crop_res-1x1x1_T1w.nii.gz")
        (folder / f"sub-ADNI002S0295_{session}_T1w_{space}_res-1x1x1_affine.mat").write_text("1")
    scan(folder / f"{base}_res-1x1x1_T1w.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "CAPS of ADNI", "BIDSVersion": "1.7"}')
    return root


@pytest.fixture
def bids_tree(tmp_path: Path, scan: Make, marks: Make) -> Path:
    """Sessions, runs, a stripped version, a preprocessed one and labels of one session."""
    root = tmp_path / "study"
    anat = root / "sub-A1" / "ses-1" / "anat"
    scan(anat / "sub-A1_ses-1_run-1_T1w.nii.gz")
    scan(anat / "sub-A1_ses-1_run-2_T1w.nii.gz")
    scan(anat / "sub-A1_ses-1_run-2_desc-brain_T1w.nii.gz")
    scan(anat / "sub-A1_ses-1_T2w.nii.gz")
    scan(root / "sub-A1" / "ses-2" / "anat" / "sub-A1_ses-2_T1w.nii.gz")
    scan(root / "sub-B2" / "anat" / "sub-B2_desc-brain_T1w.nii.gz")
    labels = "derivatives/manual/sub-A1/ses-2/anat/sub-A1_ses-2_desc-manual_dseg.nii.gz"
    marks(root / labels, {47: 13, 48: 4})
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n47\tright\n48\tleft\n")
    (root / "dataset_description.json").write_text('{"Name": "Study", "BIDSVersion": "1.9"}')
    people = "participant_id\tage\tsex\tsite\nsub-A1\t70\tF\tX\nsub-B2\t64\tM\tY\n"
    (root / "participants.tsv").write_text(people)
    (root / "sub-A1" / "sub-A1_sessions.tsv").write_text("session_id\tage\tdx\nses-2\t72.5\tMCI\n")
    return root


@pytest.fixture
def folder(tmp_path: Path, scan: Make) -> Path:
    """Files of any name with a table of any name."""
    root = tmp_path / "anything"
    for name in ("a b/Über (1).nii.gz", "c.nii", "c_seg.nii"):
        scan(root / name)
    table = "Scan;Gender;Age at scan\na b/Über (1).nii.gz;f;31,5\nc.nii;male;40\n"
    (root / "Subjects 2024.csv").write_bytes(table.encode("utf-8-sig"))
    return root
