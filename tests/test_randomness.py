"""Draws are a pure function of their keys, in any process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from volta3d.randomness import derived_seed, epoch_order, numpy_generator, torch_generator


def test_R1_the_same_in_another_process_whatever_its_hash_seed() -> None:
    code = (
        "from volta3d.randomness import derived_seed, epoch_order;"
        "print(derived_seed(1, 'scan', 2), epoch_order(9, seed=3, epoch=4).tolist())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in (1, 2)
    }
    here = f"{derived_seed(1, 'scan', 2)} {epoch_order(9, seed=3, epoch=4).tolist()}"
    assert told == {here}


def test_R7_no_two_keys_share_draws() -> None:
    keys = [
        (s, e, f"scan-{n}", v) for s in (0, 1) for e in range(9) for n in range(9) for v in "ab"
    ]
    seeds = {derived_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    # keys that would read alike when joined stay apart
    near = [(1, 12), (11, 2), ("1", 12), (1, "12"), ("1\x1f12",), (112,)]
    assert len({derived_seed(*key) for key in near}) >= len(near) - 1
    draws = np.stack([numpy_generator(*key).normal(size=500) for key in keys[:40]])
    correlations = np.corrcoef(draws)[~np.eye(40, dtype=bool)]
    assert np.abs(correlations).max() < 0.25  # 5.5 standard errors of 500 draws


def test_generators_of_both_libraries_follow_their_keys_only() -> None:
    numpy_generator(5).normal(size=10)
    assert numpy_generator("a", 1).normal() == numpy_generator("a", 1).normal()
    ours = torch.rand(4, generator=torch_generator("a", 1))
    torch.rand(100)
    assert torch.equal(ours, torch.rand(4, generator=torch_generator("a", 1)))


def test_an_epoch_visits_every_scan_once_and_in_its_own_order() -> None:
    orders = [tuple(epoch_order(50, seed=0, epoch=e)) for e in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(orders)) == 5
    assert orders[0] != tuple(epoch_order(50, seed=1, epoch=0))
