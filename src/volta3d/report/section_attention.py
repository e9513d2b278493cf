"""The section on where the summariser looks."""

from __future__ import annotations

from pathlib import Path

from volta3d.planes import sentence
from volta3d.report.blocks import Exhibit, Section
from volta3d.report.evidence import Absent
from volta3d.report.figures_attention import draw_looks, read_looks
from volta3d.report.runfolder import Run
from volta3d.report.style import number

LEAD = (
    "The attention of the summariser's learned token over the patches, averaged over its heads; 1 "
    "is the share of a token that looks everywhere alike. Each scan has a colour scale of its own; "
    "black: hardly looked at. It says where the summary is taken from, not why: what a patch token "
    "holds comes from the whole scan."
)


def attention_section(run: Run, prefix: str, images: Path, *, scans: int) -> Section:
    """Pictures of the first scans, or a sentence on why there are none."""
    section_id, title = f"{prefix}attention", "Attention of the summariser"
    looks = read_looks(run.path, run.patch_tokens)
    if isinstance(looks, Absent):
        return Section(section_id, title, sentences=[looks.sentence])
    pictures = []
    for scan in range(min(len(looks.volume), scans)):
        name = f"{prefix}attention-{scan + 1}.png"
        width, height = draw_looks(images / name, looks, scan)
        patches, total = looks.patches[scan], looks.shares[scan].size
        spread = f"Spread over {number(float(patches), 3)} of {number(total)} patches."
        pictures.append(
            Exhibit(
                f"Scan {scan + 1}",
                spread,
                image=f"{images.name}/{name}",
                width=width,
                height=height,
                alt=f"Scan {scan + 1} in sagittal, coronal and axial planes, below each the "
                f"attention of the summariser. {spread}",
            )
        )
    return Section(section_id, title, lead=f"{LEAD} {sentence()}", pictures=pictures)
