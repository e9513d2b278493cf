"""The views of a scan against MONAI's transforms that do the same operations, on one thread.

Run: python benchmarks/views.py [--out views.json] [--device cuda] [--tiny]

Preset paper on a cube of 128^3: two corrupted globals of 96^3 and eight locals of 48^3, each one
affine resampling, contrast, smoothing, Gibbs ringing and bias field with the same probabilities.
On a GPU the views of eight held scans, beside the step that they are made for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from claims import alternate, claim, clock, one_thread, parser, publish, with_device
from pretrain_step import drawn, our_step, settings, volumes

from volta3d.config import PretrainConfig, load_pretrain
from volta3d.views.batch import make_views
from volta3d.views.head import Head
from volta3d.views.intensity import BIAS, DEGREE, GIBBS, NODES, NOISE, SIGMA
from volta3d.views.parameters import scale_range

CUBOIDS = 330  # of a mask of ratio .5, the mean number that the sampler draws
MM = 2.0  # of a voxel, for views in millimetres


def monai_views(config: PretrainConfig, edge: int) -> list[Callable[[torch.Tensor], object]]:
    """One transform for every view, volta3d's operations from MONAI's parts."""
    from monai.transforms import (
        Compose,
        OneOf,
        RandAdjustContrast,
        RandAffine,
        RandBiasField,
        RandCoarseDropout,
        RandFlip,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandGibbsNoise,
        RandHistogramShift,
    )

    v, made = config.views, []
    for view in range(2 + v.locals):
        is_global = view < 2
        size = v.global_size if is_global else v.local_size
        low, high = scale_range(v, is_global, Head(MM * edge))
        shift = (1 - low) * edge / 2
        parts = [
            RandFlip(prob=v.flip, spatial_axis=0),
            RandAffine(
                prob=1.0,
                rotate_range=np.deg2rad(v.rotation),
                scale_range=[(low * edge / size - 1, high * edge / size - 1)] * 3,
                translate_range=shift,
                spatial_size=(size,) * 3,
                padding_mode="zeros",
            ),
            OneOf(
                [
                    RandAdjustContrast(prob=v.contrast, gamma=(0.5, 2.0)),
                    RandHistogramShift(prob=v.contrast, num_control_points=NODES),
                    RandGaussianNoise(prob=v.contrast, std=NOISE),
                ]
            ),
            RandGaussianSmooth(SIGMA, SIGMA, SIGMA, prob=v.smooth[min(view, 2)]),
            RandGibbsNoise(prob=v.gibbs if view == 1 else 0.0, alpha=GIBBS),
            RandBiasField(prob=v.bias, degree=DEGREE, coeff_range=(-BIAS, BIAS)),
        ]
        if is_global:
            largest = int(config.masking.max_edge * size)
            parts.append(
                RandCoarseDropout(
                    holes=CUBOIDS, spatial_size=1, max_spatial_size=largest, prob=1.0, fill_value=0
                )
            )
        chain = Compose(parts)
        chain.set_random_state(view)
        made.append(chain)
    return made


def beside_the_step(tiny: bool, device: torch.device, out: Path | None, scans: int = 8) -> None:
    """What the views take of a step, views included, on the device that trains."""
    config = settings(tiny, 8)
    held, step = volumes(config, scans, device), our_step(config, device=device)
    epochs = iter(range(10**6))
    times = alternate(
        {
            "views": lambda: drawn(config, held, next(epochs)),
            "step": lambda: step(drawn(config, held, next(epochs))),
        },
        1 if tiny else 5,
        device,
    )
    mine, whole = (times[name][clock(device)] for name in ("views", "step"))
    claims = [
        claim(
            f"{2 + config.views.locals} views of each of {scans} scans, of a step that includes "
            "them, seconds",
            mine, whole, mine / whole, "at most 10 %", mine <= 0.1 * whole,
        ),
    ]  # fmt: skip
    publish("views", claims, out, device, seconds=times)


def main() -> None:
    """Measure and print."""
    arguments = with_device(parser(__doc__)).parse_args()
    one_thread()
    if arguments.device.type == "cuda":
        beside_the_step(arguments.tiny, arguments.device, arguments.out)
        return
    sizes = ["views.global_size=32", "views.local_size=16", "views.locals=2"]
    config = load_pretrain("paper", sizes if arguments.tiny else [])
    edge = 40 if arguments.tiny else 128
    volume = torch.rand(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    chains = monai_views(config, edge)
    epoch = iter(range(10**6))

    def ours() -> None:
        make_views(
            volume,
            ["a"],
            epoch=next(epoch),
            seed=0,
            views=config.views,
            masking=config.masking,
        )

    times = alternate(
        {"ours": ours, "monai": lambda: [chain(volume[0]) for chain in chains]},
        1 if arguments.tiny else 3,
    )
    mine, theirs = times["ours"]["cpu"], times["monai"]["cpu"]
    claims = [
        claim(
            f"{2 + config.views.locals} views of a scan against MONAI's transforms, CPU seconds",
            mine, theirs, theirs / mine, "at least 2.5 times", theirs >= 2.5 * mine,
        ),
    ]  # fmt: skip
    publish("views", claims, arguments.out, seconds=times)


if __name__ == "__main__":
    main()
