"""The sections that show what a run rebuilt, and what its patch tokens tell apart."""

from __future__ import annotations

from pathlib import Path

from volta3d.planes import MIRRORED, sentence
from volta3d.report.blocks import Exhibit, Section
from volta3d.report.evidence import Absent
from volta3d.report.figures_tokens import draw_tokens, read_patch_tokens
from volta3d.report.figures_volumes import (
    MOST_EPOCHS,
    Reconstruction,
    draw_film,
    draw_reconstruction,
    read_reconstruction,
    spread,
)
from volta3d.report.runfolder import Run
from volta3d.report.style import number
from volta3d.report.viewer_of_run import reconstruction_viewer


def reconstructions(run: Run, prefix: str, images: Path, *, scans: int) -> Section:
    """Input, corrupted, rebuilt and error of at most so many scans, and how one of them came on."""
    read: list[Reconstruction] = []
    sentences: list[str] = []
    for epoch, path in spread(run.reconstructions, MOST_EPOCHS):
        found = read_reconstruction(epoch, path)
        if isinstance(found, Absent):
            sentences.append(found.sentence)
        else:
            read.append(found)
    section_id, title = f"{prefix}reconstructions", "Reconstructions"
    if not read:
        sentences.append("The run holds no reconstructions yet.")
        return Section(section_id, title, sentences=sentences)
    sides = run.config is not None and run.config.views.flip == 0
    pictures = []
    film = [record for record in read if record.shows_same(read[-1])]
    if len(film) > 1:
        name = f"{prefix}film.png"
        width, height = draw_film(images / name, film, 0, sides=sides)
        errors = ", ".join(f"{number(r.error(0))} (epoch {r.epoch})" for r in film)
        pictures.append(
            Exhibit(
                "The same corrupted scan, as training goes on",
                f"Masked MSE: {errors}.",
                image=f"{images.name}/{name}",
                width=width,
                height=height,
                alt="Coronal and axial planes of scan 1: input, corrupted, and rebuilt after "
                f"epochs {', '.join(str(r.epoch) for r in film)}.",
                wide=True,
            )
        )
    last = read[-1]
    for scan in range(min(len(last.input), scans)):
        name = f"{prefix}reconstruction-{scan + 1}.png"
        width, height = draw_reconstruction(images / name, last, scan, sides=sides)
        error = number(last.error(scan))
        pictures.append(
            Exhibit(
                f"Scan {scan + 1}, epoch {last.epoch}",
                f"Masked MSE {error}.",
                image=f"{images.name}/{name}",
                width=width,
                height=height,
                alt=f"Scan {scan + 1} in sagittal, coronal and axial planes: input, corrupted, "
                f"rebuilt, and absolute error in masked voxels; masked mean squared error {error}.",
            )
        )
    return Section(
        section_id,
        title,
        lead="Planes through the middle: sagittal, coronal, axial. Grey values as prepared, the "
        "error in the same unit. The loss counts masked voxels only; between them the decoder is "
        "free to do anything. " + (sentence() if sides else MIRRORED),
        sentences=sentences,
        pictures=pictures,
        viewer=reconstruction_viewer(images.parent, prefix, last, scans=scans, sides=sides),
    )


def tokens(run: Run, prefix: str, images: Path, *, scans: int) -> Section:
    """Patch tokens of at most so many scans as colours over anatomy."""
    section_id, title = f"{prefix}tokens", "Patch tokens"
    found = read_patch_tokens(run.patch_tokens)
    if isinstance(found, Absent):
        return Section(section_id, title, sentences=[found.sentence])
    pictures = []
    for scan in range(min(len(found.volume), scans)):
        name = f"{prefix}tokens-{scan + 1}.png"
        width, height = draw_tokens(images / name, found, scan)
        pictures.append(
            Exhibit(
                f"Scan {scan + 1}",
                image=f"{images.name}/{name}",
                width=width,
                height=height,
                alt=f"Scan {scan + 1} in sagittal, coronal and axial planes, below each the first "
                "three principal components of its patch tokens as red, green and blue.",
            )
        )
    shares = ", ".join(number(float(100 * share), 2) for share in found.explained)
    return Section(
        section_id,
        title,
        lead="The teacher's patch tokens on three principal components, shown as red, green and "
        f"blue ({shares} % of the variance between tokens of the head), the same for all scans. "
        "Like colours are like features. Colours that follow tissue and repeat left and right "
        "speak for anatomy; a smooth gradient across the head is position alone. " + sentence(),
        pictures=pictures,
    )
