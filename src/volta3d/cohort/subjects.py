"""Whose scans these are: what folds, resampling and paired tests go by."""

from __future__ import annotations

from typing import Any

from volta3d.cohort.identity import person_key


def subjects_of(people: Any) -> tuple[list[str], list[str]]:
    """The subject of each scan, and what was noticed, one sentence each.

    Ids are compared as :func:`volta3d.cohort.identity.person_key` does: ``sub-01`` of two data sets
    are two subjects, an ADNI number in two of ADNI's data sets is one. People who share an
    identical file are one subject, so that no copy of a scan is tested by a model that trained on
    it. A subject is named by its id, and by its data set too where other subjects have that id.

    Args:
        people: a cohort's participants.
    """
    ids = [str(p).casefold() for p in people["participant_id"]]
    sets = [str(d) for d in people["dataset"]]
    keys = [person_key(own, where) for own, where in zip(ids, sets, strict=True)]
    names, findings = _names(keys, ids, sets)
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    first: dict[str, str] = {}
    for key, digest in zip(keys, people["source_sha256"].astype(str), strict=True):
        if digest and root(first.setdefault(digest, key)) != root(key):
            one, other = names[first[digest]], names[key]
            findings.append(f"{one} and {other} share an image: taken as one subject")
            low, high = sorted((root(first[digest]), root(key)), key=names.__getitem__)
            parent[high] = low
    return [names[root(key)] for key in keys], findings


def _names(keys: list[str], ids: list[str], sets: list[str]) -> tuple[dict[str, str], list[str]]:
    """What each person is called, and a sentence where ids alone would mislead."""
    known = list(zip(keys, ids, sets, strict=True))
    owners: dict[str, set[str]] = {}
    for key, own, _ in known:
        owners.setdefault(own, set()).add(key)
    names: dict[str, str] = {}
    for key, own, where in known:
        names.setdefault(key, own if len(owners[own]) == 1 else f"{where}:{own}")
    several = sorted(own for own, people in owners.items() if len(people) > 1)
    findings = []
    if several:
        findings.append(
            f"{len(several)} ids occur in several data sets, the first {several[0]}: taken as "
            "different people"
        )
    homes: dict[str, set[str]] = {}
    for key, _, where in known:
        homes.setdefault(key, set()).add(where)
    shared = sorted(names[key] for key, where in homes.items() if len(where) > 1)
    if shared:
        findings.append(
            f"{len(shared)} people are in several data sets, the first {shared[0]}: each is one "
            "subject"
        )
    return names, findings
