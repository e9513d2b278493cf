"""What the name of a NIfTI file, and of the folder it is in, says that the file is."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import stem

LABEL_WORDS = {
    "aparc", "aseg", "atlas", "brainmask", "deface", "defacemask", "dseg", "gt", "groundtruth",
    "label", "labelmap", "labels", "lesion", "lesions", "mask", "masks", "parc", "parcellation",
    "prob", "probseg", "pve", "pveseg", "ribbon", "roi", "rois", "seg", "segm", "segmentation",
    "segmentations", "wmparc",
}  # fmt: skip
LABEL_FOLDERS = {
    "annotation", "annotations", "groundtruth", "gt", "label", "labels", "labelstr", "labelsts",
    "mask", "masks", "rois", "seg", "segmentation", "segmentations", "segs",
}  # fmt: skip
PROBABILITY = re.compile(r"pve_?\d|pveseg|probseg|probability|posterior\w*")
OTHER_WORDS = {
    "adc", "angio", "asl", "bold", "cbf", "cbv", "ciss", "dce", "dsc", "dti", "dwi", "ep2d", "epi",
    "fieldmap", "flair", "fmri", "inplanet2", "m0scan", "magnitude1", "magnitude2", "megre", "mese",
    "minip", "mip", "mra", "mrv", "mtr", "pasl", "pcasl", "pd", "pdt2", "pdw", "perf", "phase1",
    "phase2", "phasediff", "qsm", "sbref", "stir", "swan", "swi", "t2", "t2f", "t2flair", "t2n",
    "t2star", "t2starw", "t2tse", "t2w", "tof", "tracew",
}  # fmt: skip
OTHER_FOLDERS = OTHER_WORDS | {"fmap", "func"}
# suffixes of BIDS raw data that are not T1-weighted scans; whatever ends in "map" is another
SUFFIXES = OTHER_WORDS | {
    "ct", "irt1", "mp2rage", "mpm", "mts", "mtw", "pet", "phase", "physio", "t1rho", "tb1afi",
    "tb1dam", "tb1epi", "tb1rfm", "tb1srge", "tb1tfl", "tem", "unit1", "vfa", "rb1cor", "inplanet1",
    "epi", "meg", "eeg", "t2star", "magnitude", "nirs", "svs", "mrsi", "mrsref", "unloc",
}  # fmt: skip
MAP = re.compile(r"([rtm][012]|m[tw]|pd|s0|chi|[tr]b1|mtr|mwf|r2star|t2star|fa|md|cbf|b[01])\w*map")
T1 = re.compile(r"t1w?|t1n|t1c|mp?rage|mp2rage|spgr|fspgr|bravo|mdeft|tfe|t1\w*")
SUBJECT = re.compile(r"sub-[^_]+_")
NAMED = "If it is a T1-weighted scan, end its name with _T1w"
ATTACH = "To use it, name it like its scan with _dseg at the end; else there is nothing to do"


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without what is no letter or digit."""
    return [w for w in re.split(r"[^a-z0-9]+", name.lower()) if w]


def is_label_name(path: Path) -> bool:
    """Whether a name, or that of its folder, is one of a label map, a mask or a probability map.

    Args:
        path: of a file, relative to its source.
    """
    words = words_of(stem(path))
    if not words:
        return False
    by_name = {words[0], words[-1]} & LABEL_WORDS or PROBABILITY.search("_".join(words))
    return bool(by_name) or path.parent.name.lower().replace("_", "") in LABEL_FOLDERS


def not_t1(path: Path) -> Finding | None:
    """Why the name of a file says that it is no T1-weighted scan; None if it doesn't.

    A BIDS-like name (``sub-01_..._T2w``) says so by its suffix, any other by its words, or by the
    folder that it is in. A word for T1 wins over others.

    Args:
        path: of a file, relative to its source.
    """
    name, words = stem(path), words_of(stem(path))
    suffix = name.rsplit("_", 1)[-1].lower()
    if SUBJECT.match(name) and suffix != "t1w":
        if entity := _entity_reason(name):
            return entity
        if suffix != "unit1" and (suffix in SUFFIXES or suffix.endswith("map")):
            return _said(f"Its name says {suffix}")
    if SUBJECT.match(name):
        return _entity_reason(name)
    if any(MAP.fullmatch(w) for w in words) or _two_words(words):
        return _said("Its name says that it is a map of measured values")
    if {"inv1", "inv2"} & set(words) or re.search(r"inv[-_ ]?[12](?!\d)", name.lower()):
        return _said("Its name says that it is an inversion image of MP2RAGE")
    if {"phase", "real", "imag", "imaginary"} & set(words[-2:]) and len(words) > 1:
        return Finding("error", "not-magnitude", "Its name says that it is no magnitude", NAMED)
    if {"scout", "localizer", "localiser", "survey"} & set(words):
        return Finding("error", "localiser", "Its name says that it is a localiser", NAMED)
    if any(T1.fullmatch(w) for w in words):
        return None
    found = sorted(set(words) & OTHER_WORDS) or sorted(
        set(words_of(path.parent.name)[:1]) & OTHER_FOLDERS
    )
    return _said(f"Its name or its folder says {found[0]}") if found else None


def remarks_on_name(path: Path) -> list[Finding]:
    """What a name says that a person should know: a contrast agent, the uniform of MP2RAGE."""
    words, name = set(words_of(stem(path))), stem(path)
    findings = []
    agent = re.search(r"(?:^|_)ce-([A-Za-z0-9]+)", name)
    by_entity = agent is not None and agent[1].lower() not in ("none", "no", "pre", "without")
    contrast = {"t1c", "t1ce", "t1gd", "gad", "gado", "gd", "gadolinium", "postcontrast"}
    if by_entity or words & contrast or {"post", "contrast"} <= words:
        what = "A contrast agent was given, by its name"
        fix = "Don't mix with scans without one"
        findings.append(Finding("warning", "contrast-agent", what, fix))
    if name.lower().endswith("_unit1") or {"uni", "uniden"} & words:
        what = "The uniform image of MP2RAGE: T1-weighted, with noise where there is no head"
        fix = "Don't mix with ordinary T1w scans"
        findings.append(Finding("warning", "mp2rage-uniform", what, fix))
    return findings


def _entity_reason(name: str) -> Finding | None:
    part = re.search(r"_part-([A-Za-z]+)", name)
    if part and part[1].lower() not in ("mag", "magnitude"):
        what = f"Its name says part-{part[1].lower()}: not a magnitude"
        return Finding("error", "not-magnitude", what, NAMED)
    if re.search(r"_inv-\d", name):
        return _said("Its name says that it is an inversion image of MP2RAGE")
    return None


def _two_words(words: list[str]) -> bool:
    pairs = set(pairwise(words))
    return any(b in ("map", "mapping") and re.fullmatch(r"[rt][12]|pd|mt|b1", a) for a, b in pairs)


def _said(what: str) -> Finding:
    return Finding("error", "not-t1", what, NAMED)
