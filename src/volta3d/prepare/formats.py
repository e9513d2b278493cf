"""File formats of volumes and archives by the ends of their names, and which of them are read."""

from __future__ import annotations

from pathlib import Path

from volta3d.prepare.walk import is_hidden

NIFTI = (".nii", ".nii.gz")
READ = (".mgz", ".mgh", ".img", ".mnc")  # a pair is named by its .img file
OTHER = {
    ".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage",
    ".brik": "AFNI", ".brik.gz": "AFNI", ".par": "Philips PAR/REC", ".xml.rec": "Philips",
    ".mgh.gz": "MGH", ".mnc.gz": "MINC", ".img.gz": "Analyze", ".nii.bz2": "NIfTI in bzip2",
    ".nii.xz": "NIfTI in xz", ".nii.zst": "NIfTI in zstd", ".nii.zip": "NIfTI in zip",
    ".zip": "zip", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".tar.bz2": "tar",
    ".tar.xz": "tar", ".7z": "7-Zip", ".rar": "RAR", ".npy": "NumPy", ".npz": "NumPy",
    ".vmr": "BrainVoyager", ".ecat": "ECAT", ".gipl": "GIPL", ".vtk": "VTK",
}  # fmt: skip
ARCHIVES = {"zip", "tar", "7-Zip", "RAR"}
CONVERT = {
    "NRRD": "Save it as .nii.gz, for instance with 3D Slicer",
    "MetaImage": "Save it as .nii.gz, for instance with 3D Slicer",
    "AFNI": "Convert it with: 3dAFNItoNIFTI",
    "Philips PAR/REC": "Convert it with: dcm2niix",
    "MGH": "Unpack it, or convert it with: mri_convert FILE FILE.nii.gz",
    "MINC": "Unpack it, or convert it with: mnc2nii",
    "zip": "Unpack it, or give each zip as a source of its own",
}
ENDINGS = tuple(sorted((*NIFTI, *READ, ".hdr", *OTHER), key=len, reverse=True))


def ending(path: Path) -> str:
    """The end of a file's name that says what it is, in lower case; empty if none does."""
    name = path.name.lower()
    return next((e for e in ENDINGS if name.endswith(e) and name != e), "")


def stem(path: Path) -> str:
    """The file name without the ending of an image's format."""
    found = ending(path)
    return path.name[: -len(found)] if found else path.stem


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI, and not that of a hidden file."""
    return path.name.lower().endswith(NIFTI) and not is_hidden(path.name)


def is_image(path: Path) -> bool:
    """Whether the name says a format that is read: NIfTI, MGH, a pair's .img or MINC."""
    return path.name.lower().endswith((*NIFTI, *READ)) and not is_hidden(path.name)


def unread(path: Path) -> str:
    """The format of a file that holds images, but isn't read; empty for any other file."""
    return "" if is_hidden(path.name) else OTHER.get(ending(path), "")


def partner(path: Path) -> Path | None:
    """The header of a pair's ``.img`` file, whether it is there or not; None for other files."""
    if path.suffix.lower() != ".img":
        return None
    return path.with_suffix(".HDR" if path.suffix == ".IMG" else ".hdr")
