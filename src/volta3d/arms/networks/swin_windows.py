"""Which tokens of a grid attend to which in a Swin block, with nothing computed in vain.

Swin fills its grid up to whole windows, shifts it around, and forbids tokens that came from
opposite faces to see each other. What is left are boxes of tokens that attend to themselves. In
MONAI's layers tokens that fill up are attended to like others (their query, key and value are the
bias of the projection), and what they themselves become is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import torch
from torch import Tensor

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Group:
    """Tokens that attend to each other, as runs of the plan's two orders.

    Args:
        queries, keys: where they stand in ``Plan.queries`` and ``Plan.keys``.
        query_box, key_box: where they stand in the window, an axis each.
    """

    queries: slice
    keys: slice
    query_box: Box
    key_box: Box


@dataclass(frozen=True)
class Plan:
    """All groups of a grid of T tokens.

    Args:
        queries: [T], numbers of tokens, each once.
        keys: [K], numbers of tokens, each once, and T for a token that only fills up.
        places: [T], where each token stands in ``queries``.
        groups: which runs of both belong together.
    """

    queries: Tensor
    keys: Tensor
    places: Tensor
    groups: tuple[Group, ...]


@lru_cache(maxsize=64)
def plan(grid: Triple, window: Triple, shift: Triple) -> Plan:
    """The groups of a grid under windows of that size and shift, as MONAI's mask has them.

    Args:
        grid: tokens along each axis.
        window, shift: those of the block, already clamped to the grid.
    """
    total = prod(grid)
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    groups = []
    at_query = at_key = 0
    axes = [_pieces(g, w, s) for g, w, s in zip(grid, window, shift, strict=True)]
    for pieces in product(*axes):
        box = torch.zeros([len(positions) for _, positions in pieces], dtype=torch.long)
        filling = torch.zeros(box.shape, dtype=torch.bool)
        for axis, (_, positions) in enumerate(pieces):
            shape = [-1 if a == axis else 1 for a in range(3)]
            along = torch.tensor(positions).reshape(shape)
            box = box * grid[axis] + along
            filling |= along >= grid[axis]
        real = [sum(p < g for p in pos) for (_, pos), g in zip(pieces, grid, strict=True)]
        if not all(real):
            continue
        own = box[: real[0], : real[1], : real[2]].reshape(-1)  # filling tokens stand last
        queries.append(own)
        keys.append(box.masked_fill(filling, total).reshape(-1))
        starts = [start for start, _ in pieces]
        groups.append(
            Group(
                queries=slice(at_query, at_query + own.numel()),
                keys=slice(at_key, at_key + box.numel()),
                query_box=_box(starts, real),
                key_box=_box(starts, [len(positions) for _, positions in pieces]),
            )
        )
        at_query, at_key = at_query + own.numel(), at_key + box.numel()
    order = torch.cat(queries)
    return Plan(order, torch.cat(keys), torch.argsort(order), tuple(groups))


def _pieces(grid: int, window: int, shift: int) -> list[tuple[int, list[int]]]:
    """Along one axis: where in its window each piece begins, and the positions it holds."""
    filled = -(-grid // window) * window
    edges = list(range(0, filled, window))
    if shift:
        edges.append(filled - shift)  # the last window joins both faces: two pieces
    ends = [*edges[1:], filled]
    return [
        (edge % window, [(p + shift) % filled for p in range(edge, end)])
        for edge, end in zip(edges, ends, strict=True)
    ]


def _box(starts: list[int], sizes: list[int]) -> Box:
    a, b, c = (slice(s, s + n) for s, n in zip(starts, sizes, strict=True))
    return a, b, c
