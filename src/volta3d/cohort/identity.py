"""Who a scan is of, so that one person is recognised under the names of several data sets."""

from __future__ import annotations

import re

# Data sets whose people keep their numbers wherever their scans go. HarP is a part of ADNI.
ARCHIVES = {"adni": "adni", "harp": "adni", "aibl": "aibl", "ixi": "ixi", "oasis": "oas"}
ALIASES = {"oasis": "oas"}
# Words before a number that say nothing about where the number comes from.
GENERIC = frozenset({
    "sub", "subj", "subject", "subjects", "pat", "patient", "participant", "person", "volunteer",
    "case", "scan", "img", "image", "t1", "control", "controls", "id", "ses", "nii", "anat", "head",
    "brain", "sample",
})  # fmt: skip
PTID = re.compile(r"(?:adni|harp)?(\d{3})s(\d{4,5})")
NUMBERED = re.compile(r"([a-z]+)(\d+)")
ITSELF = 8  # an id this long, of letters and digits, does not occur twice by chance
LONG_NUMBER = 10  # nor does a number this long; pseudonyms are such ids


def person_key(participant_id: str, dataset: str) -> str:
    """A key that is equal for two ids of one person, whatever the cohort calls them.

    Case, separators and ``sub-`` don't count, nor do leading zeros. ``002_S_0295``,
    ``sub-ADNI002S0295`` and, in a data set called ADNI or HarP, ``295`` are the same person (the
    last part of an ADNI id is unique across its sites). An id with a word of its own (``IXI002``,
    ``OAS1_0061``, ``BraTS-GLI-00005``) or a long one of letters and digits stands for itself;
    any other (``sub-01``) only means something within its data set.

    Args:
        participant_id, dataset: as in a participants table.
    """
    compact = _compact(re.sub(r"^sub[-_]", "", participant_id.strip(), flags=re.IGNORECASE))
    home = namespace(dataset)
    adni = PTID.fullmatch(compact)
    if adni:
        return f"adni:{int(adni[2])}"
    numbered = NUMBERED.fullmatch(compact)
    if numbered:
        word, number = numbered[1], int(numbered[2])
        word = ALIASES.get(word, word)
        if word == home or word in GENERIC:
            return f"{home}:{number}"
        if len(word) >= 3:
            return f"{word}:{number}"
        if len(compact) < ITSELF:
            return f"{home}:{word}{number}"
    if compact.isdigit() and len(compact) < LONG_NUMBER:
        return f"{home}:{int(compact)}"
    enough = LONG_NUMBER if compact.isdigit() else ITSELF
    coded = re.search(r"\d", compact) and len(compact) >= enough
    return f"*:{compact}" if coded else f"{home}:{compact}"


def namespace(dataset: str) -> str:
    """The archive that a data set's name begins with, else the name itself, compared."""
    compact = _compact(dataset)
    known = next((a for a in ARCHIVES if compact.startswith(a)), "")
    return ARCHIVES[known] if known else compact


def _compact(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())
