"""Which label map belongs to which reference: by the same key, else by what names have in common.

Predictions carry BIDS names and references often plain ones (``hippocampus_001`` becomes
``sub-hippocampus001``), or references have entities that predictions dropped. Such names are only
paired where nothing else could be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from volta3d.evaluate.segmentation.labelsets import ENDING

DROPPED = ("acq", "run")  # BIDS entities that a prediction may lack


def partners(reference: Collection[str], other: Collection[str]) -> dict[str, str]:
    """Pairs of keys.

    Args:
        reference: keys of the reference, see ``labelsets.key_of``.
        other: keys of the label maps.

    Returns:
        Reference key to the other's key. A key without a partner, or with several that could be
        meant, is left out.
    """
    found = {key: key for key in reference if key in other}
    for short in (_joined, _without_dropped):
        for mine, yours in _only_ones(reference, other, short):
            if mine not in found and yours not in found.values() and _agree(mine, yours):
                found[mine] = yours
    return found


def _only_ones(
    reference: Collection[str], other: Collection[str], short: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Keys that are the same for short, and the only ones of it on each side."""
    counts = [Counter(short(k) for k in keys) for keys in (reference, other)]
    by_short = {short(k): k for k in other}
    for key in sorted(reference):
        name = short(key)
        if counts[0][name] == counts[1][name] == 1:
            yield key, by_short[name]


def _agree(first: str, second: str) -> bool:
    """Whether two names differ by no more than what a program leaves out of a name.

    One has no word that the other divides elsewhere (``a_12`` is not ``a1_2``, ``a12`` may be
    either), and where both state an entity they state the same.
    """
    one, other = _entities(first), _entities(second)
    cuts, others = _cuts(_bare(first)), _cuts(_bare(second))
    return (one.items() <= other.items() or other.items() <= one.items()) and (
        cuts <= others or others <= cuts
    )


def _entities(key: str) -> dict[str, str]:
    return dict(re.findall(rf"(?:^|_)({'|'.join(DROPPED)})-([A-Za-z0-9]+)", key))


def _bare(key: str) -> str:
    """Without acq and run."""
    return re.sub(rf"(^|_)({'|'.join(DROPPED)})-[A-Za-z0-9]+", "", key)


def _words(key: str) -> list[str]:
    """The words of a key in lower case, without ``sub-``, descriptions and endings."""
    text = re.sub(r"[_.]?desc-[A-Za-z0-9]+", "", key)
    while ENDING.search(text):
        text = ENDING.sub("", text)
    return re.findall(r"[^\W_]+", text.lower().removeprefix("sub-"))


def _joined(key: str) -> str:
    return "".join(_words(key))


def _without_dropped(key: str) -> str:
    return _joined(_bare(key))


def _cuts(key: str) -> set[int]:
    """Behind how many letters its words end."""
    ends, at = set(), 0
    for word in _words(key):
        at += len(word)
        ends.add(at)
    return ends
