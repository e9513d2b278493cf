"""The two scanners: grids, contrast, noise, and that they differ."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from volta3d.phantom.anatomy import Anatomy
from volta3d.phantom.head import Head, make_head
from volta3d.phantom.scanner import FIELD, SCANNERS, acquire, scan_grid
from volta3d.phantom.subject import Subject, draw_subject


def subject_of(site: str) -> Subject:
    return next(s for s in (draw_subject(n, 3) for n in range(1, 13)) if s.site == site)


@pytest.mark.parametrize(("site", "axes"), [("siteA", "RAS"), ("siteB", "PSR")])
def test_grid_has_the_sites_axes_spacing_and_field(site: str, axes: str) -> None:
    subject = subject_of(site)
    affine, shape = scan_grid(SCANNERS[site], 2.0, subject, 3)
    assert "".join(nib.aff2axcodes(affine)) == axes
    steps = nib.affines.voxel_sizes(affine)
    assert steps == pytest.approx(2.0 * np.array(SCANNERS[site].spacing))
    extent = dict(zip(axes, steps * shape, strict=True))
    for letters, wished in zip(("RL", "AP", "SI"), FIELD, strict=True):
        assert any(wished <= extent.get(letter, 0) < wished + 4 for letter in letters)
    assert np.linalg.matrix_rank(affine) == 4


def simulated(anatomy: Anatomy, site: str) -> tuple[Head, np.ndarray]:
    subject = subject_of(site)
    scanner = SCANNERS[site]
    affine, shape = scan_grid(scanner, 4.0, subject, 3)
    head = make_head(anatomy, subject, 3, affine, shape)
    return head, acquire(head, scanner, affine, subject, 3)


def test_field_of_view_holds_the_whole_head_but_the_neck(anatomy: Anatomy) -> None:
    for site in SCANNERS:
        subject = subject_of(site)
        affine, shape = scan_grid(SCANNERS[site], 4.0, subject, 3)
        skull = make_head(anatomy, subject, 3, affine, shape).skull.numpy()
        for axis, letter in enumerate(nib.aff2axcodes(affine)):
            faces = {letter: -1, "LRPAIS"["RLAPSI".index(letter)]: 0}
            for face, index in faces.items():
                if face != "I":
                    assert skull.take(index, axis=axis).min() > 15  # mm: outside the scalp


def test_tissues_are_ordered_as_in_t1(anatomy: Anatomy) -> None:
    for site in SCANNERS:
        head, image = simulated(anatomy, site)
        inside = image[head.inside.numpy()]
        white, grey, fluid = (
            np.median(inside[part.numpy() > limit])
            for part, limit in ((head.white, 0.9), (head.grey, 0.9), (head.fluid, 0.9))
        )
        assert white > 1.1 * grey > 1.3 * fluid
        assert float((head.white + head.grey + head.fluid - 1).abs().max()) < 0.05


def test_background_is_rayleigh_noise(anatomy: Anatomy) -> None:
    for site, scanner in SCANNERS.items():
        head, image = simulated(anatomy, site)
        # the scalp ends below 16 mm, and blur reaches a few voxels of up to 5.2 mm beyond it
        air = image[((head.skull > 28) & (head.flesh > 15)).numpy()].astype(float)
        assert len(air) > 2000
        white = np.median(image[head.inside.numpy()][head.white.numpy() > 0.9])
        # Rayleigh mean = sigma * sqrt(pi / 2); bias field and gain cancel roughly.
        expected = scanner.noise * np.sqrt(np.pi / 2)
        assert air.mean() / white == pytest.approx(expected, rel=0.35)
        assert air.std() / air.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), rel=0.1)


def test_right_is_right_in_world_coordinates_on_both_sites(phantom_folder: Path) -> None:
    people = pd.read_csv(phantom_folder / "participants.tsv", sep="\t")
    for site in SCANNERS:
        for name in people.participant_id[people.site == site][:4]:
            scan = nib.load(phantom_folder / name / "anat" / f"{name}_T1w.nii.gz")
            truth = nib.load(
                phantom_folder / f"derivatives/truth/{name}/anat/{name}_desc-truth_dseg.nii.gz"
            )
            assert np.array_equal(scan.affine, truth.affine)
            assert scan.shape == truth.shape
            labels = np.asarray(truth.dataobj)
            assert set(np.unique(labels)) == {0, 47, 48}
            right, left = (
                nib.affines.apply_affine(truth.affine, np.argwhere(labels == value))
                for value in (47, 48)
            )
            assert right[:, 0].mean() - left[:, 0].mean() == pytest.approx(50, abs=12)  # mm


def test_labels_lie_on_grey_matter(anatomy: Anatomy) -> None:
    for site in SCANNERS:
        head, _ = simulated(anatomy, site)
        labelled = head.hippocampus.abs()[head.inside] > 0.5
        assert float(head.grey[labelled].mean()) > 0.7
