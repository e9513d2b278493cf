"""The Medical Segmentation Decathlon: ``dataset.json``, ``imagesTr`` and ``labelsTr``.

The training pairs that dataset.json lists, with the names it gives to their labels. An image of
several channels (the brain tumours: FLAIR, T1w, T1gd, T2w) is refused with their names, because
which of them is wanted is not guessed. There is no age, sex or site.

The hippocampus task has one crop per side and says nothing about people, but its crops 2k - 1 and
2k are of one person: their intensities have one scale and their pictures are alike, those of other
neighbours are not (docs/LOG.md). They count as one participant, or folds would share people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from volta3d.errors import VoltaError
from volta3d.files import inside
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import stem
from volta3d.prepare.layouts.bids_names import dataset_name
from volta3d.prepare.layouts.nnunet import PAIR, channel_names, label_names, participant
from volta3d.prepare.layouts.nnunet import matches as is_nnunet
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique
from volta3d.prepare.tables import load_json, person
from volta3d.prepare.walk import is_folder

DESCRIPTION = "dataset.json"


def matches(root: Path) -> bool:
    """Whether there is a dataset.json that lists training pairs, and not those of nnU-Net."""
    listed = is_folder(root) and isinstance(load_json(root / DESCRIPTION).get("training"), list)
    return listed and not is_nnunet(root)


def discover(root: Path) -> Discovery:
    """The training images with their label maps."""
    content = load_json(root / DESCRIPTION)
    dataset = "msd-" + dataset_name(root, {"Name": content.get("name")})
    names, channels = label_names(content), channel_names(content)
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for pair in content["training"]:
        image, label = _pair(pair)
        path, problem = _file(root, image)
        mask, unusable = _file(root, label) if label else (None, None)
        problem = problem or unusable or (_several(channels) if len(channels) > 1 else None)
        if problem or path is None:
            refused.append((root / image, problem or _missing(image)))
            continue
        name = stem(path)
        scans.append(
            Scan(
                source=path,
                scan_id=slug(f"{dataset}_{name}"),
                participant_id=plain(participant(name)),
                dataset=dataset,
                label=mask,
                label_names=names if mask else {},
                findings=(*person([]).findings, *([PAIR] if participant(name) != name else [])),
            )
        )
    return Discovery(unique(scans, root), tuple(refused))


def _pair(pair: object) -> tuple[str, str]:
    if isinstance(pair, Mapping):
        return str(pair.get("image", "")), str(pair.get("label", "") or "")
    return str(pair), ""


def _file(root: Path, name: str) -> tuple[Path | None, Finding | None]:
    """A file that dataset.json names; it is not trusted to stay in its folder."""
    try:
        inside(root, name)
    except VoltaError:
        what = "dataset.json names a file outside its folder"
        return None, Finding("error", "link-outside", what, LINK_OUT.how_to_fix)
    path = root / name
    return (path, None) if path.is_file() else (None, _missing(name))


def _missing(name: str) -> Finding:
    what = f"dataset.json lists {plain(name) or 'a pair without an image'}, which is not there"
    return Finding("error", "missing-file", what, "Fetch the file, or take it off the list")


def _several(channels: Mapping[str, str]) -> Finding:
    listed = ", ".join(f"{number} {plain(name)}" for number, name in channels.items())
    what = f"Images of {len(channels)} channels ({listed}); which one is wanted is not guessed"
    t1 = next((n for n, name in channels.items() if name.lower() in ("t1", "t1w")), "0")
    fix = f"Save channel {t1} of each image as a 3D file of its own"
    return Finding("error", "series", what, fix)
