"""Fine-tuning against a plain MONAI loop: the ViT classifier, and UNETR on crops.

Run: python benchmarks/finetune.py [--out finetune.json] [--device cuda] [--tiny]

The MONAI side is what tutorials write: CacheDataset, whose filling is not counted, a DataLoader,
random transforms on crops, MONAI's ViT or UNETR of the same sizes, AdamW. It runs in fp32, as
people run it, and once more under bf16 autocast, which is how ours runs. Scans are random: nothing
is learnt, and time doesn't depend on what is in them. One thread.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from claims import CPU, alternate, claim, clock, one_thread, parser, publish, with_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from volta3d.arms.fold_data import FoldData
from volta3d.arms.networks.classifier import VitClassifier
from volta3d.arms.segmenter import Architecture, empty
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_classify, load_segment
from volta3d.downstream.classification.fit import Learner
from volta3d.downstream.classification.inputs import Cubes, stemmed
from volta3d.downstream.segmentation.fit import Fit, Task
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder
from volta3d.pretrain.data import Scans

Side = Callable[[], object]
NAMES = {47: "Right-Hippocampus", 48: "Left-Hippocampus"}


def scans_with_labels(path: Path, count: int, edge: int) -> Cohort:
    """Random volumes with a left and a right structure."""
    rng = np.random.default_rng(0)
    volumes = [rng.random((edge,) * 3, dtype=np.float32) for _ in range(count)]
    labels = np.zeros((edge,) * 3, np.uint16)
    third, half = edge // 3, edge // 2
    labels[third - 3 : third + 3, half - 3 : half + 3, half - 3 : half + 3] = 48
    labels[edge - third - 3 : edge - third + 3, half - 3 : half + 3, half - 3 : half + 3] = 47
    people = pd.DataFrame(
        {
            "scan_id": [f"s{i}" for i in range(count)],
            "participant_id": [f"p{i}" for i in range(count)],
        }
    )
    contract = Contract(size=edge, spacing=1.0, fit="pad", label_names=NAMES)
    return write_cohort(path, contract, volumes, people, labels=[labels] * count)


def our_classifier(
    cohort: Cohort, sizes: dict[str, int], epochs: int, device: torch.device = CPU
) -> Side:
    """All epochs, the frozen blocks' pass over every scan included."""
    config = load_classify("small", [f"epochs={epochs}", "epoch=last"])
    rows = np.arange(len(cohort))
    encoder = Encoder(
        sizes["edge"], sizes["patch"], sizes["width"], sizes["depth"], sizes["heads"], sizes["mlp"]
    )
    network = VitClassifier(
        encoder, Summariser(sizes["width"], sizes["heads"]), pooling="mean", outputs=2,
        tune="last", blocks=config.blocks, seed=0,
    ).to(device)  # fmt: skip
    values = (rows % 2).astype(np.float64)
    one = rows[:1]  # somebody to choose on and to report on, next to nothing of the time
    asked = FoldData(rows, one, one, values, values[:1], 2, 0)

    def run() -> None:
        cubes = Cubes(Scans([cohort], device=device), sizes["edge"], config.augment, 0)
        with torch.autocast(device.type, torch.bfloat16):
            stored = stemmed(cubes, network.stem, rows, None)
        Learner(
            network, cubes, rows, stored, config, standardised=False, bf16=True
        ).learn(asked)  # fmt: skip

    return run


def monai_classifier(
    cohort: Cohort, sizes: dict[str, int], batch: int, bf16: bool, device: torch.device = CPU
) -> Side:
    """One epoch: all blocks run, the last two learn."""
    from monai.data import CacheDataset
    from monai.networks.nets import ViT
    from monai.transforms import Compose, EnsureTyped, ScaleIntensityd

    config = load_classify("small")
    items = [{"image": cohort.volume(i)[None], "label": i % 2} for i in range(len(cohort))]
    steps = Compose([EnsureTyped("image"), ScaleIntensityd("image")])
    data = DataLoader(CacheDataset(items, steps, progress=False), batch, shuffle=True)
    network = ViT(
        1, (sizes["edge"],) * 3, (sizes["patch"],) * 3, sizes["width"], sizes["mlp"],
        sizes["depth"], sizes["heads"], classification=True, num_classes=2, post_activation="",
    )  # fmt: skip
    network.requires_grad_(False)
    for part in (*network.blocks[-config.blocks :], network.norm, network.classification_head):
        part.requires_grad_(True)
    loss = nn.CrossEntropyLoss()
    return _epoch(network, data, lambda out, b: loss(out[0].float(), b["label"]), bf16, device)


def our_unetr(
    cohort: Cohort, sizes: dict[str, int], work: Path, device: torch.device = CPU
) -> Side:
    """One epoch of crops."""
    config = load_segment("small", [f"crops.size={sizes['crop']}", "warmup_epochs=0"])
    scans = LabelledScans.open(cohort, config.labels, config.side_ratio, device)
    inner = {k: sizes[k] for k in ("width", "heads", "mlp")}
    network = empty(
        Architecture(
            "unetr",
            3,
            {"image_size": sizes["crop"], "patch_size": 16, "depth": 12, "features": 16, **inner},
        ),
        0,
    )
    fit = Fit(network, scans, Task(range(len(scans)), [], 0, "full", work), config, bf16=True)
    return lambda: fit.epoch(0)


def monai_unetr(
    cohort: Cohort, sizes: dict[str, int], bf16: bool, device: torch.device = CPU
) -> Side:
    """One epoch of crops, about as much augmented as ours."""
    from monai.data import CacheDataset, list_data_collate
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets import UNETR
    from monai.transforms import (
        Compose,
        EnsureTyped,
        RandAdjustContrastd,
        RandAffined,
        RandCropByPosNegLabeld,
        RandFlipd,
    )

    config, crop = load_segment("small"), (sizes["crop"],) * 3
    both = ("image", "label")
    classes = {0: 0, 48: 1, 47: 2}
    items = []
    for i in range(len(cohort)):
        given = cohort.label(i)
        assert given is not None
        label = np.vectorize(classes.get)(given).astype(np.float32)
        items.append({"image": cohort.volume(i)[None], "label": label[None]})
    steps = Compose(
        [
            EnsureTyped(both),
            RandCropByPosNegLabeld(both, "label", crop, pos=2, neg=1, num_samples=1),
            RandFlipd(both, prob=0.5, spatial_axis=0),
            RandAffined(
                both, prob=1.0, rotate_range=(0.17,) * 3, scale_range=(0.15,) * 3,
                mode=("bilinear", "nearest"), padding_mode="zeros",
            ),
            RandAdjustContrastd("image", prob=0.5),
        ]
    )  # fmt: skip
    data = DataLoader(
        CacheDataset(items, steps, progress=False), config.batch_size, shuffle=True,
        collate_fn=list_data_collate,
    )  # fmt: skip
    network = UNETR(
        1, 3, crop, feature_size=16, hidden_size=sizes["width"], mlp_dim=sizes["mlp"],
        num_heads=sizes["heads"],
    )  # fmt: skip
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    return _epoch(network, data, lambda out, b: loss(out.float(), b["label"]), bf16, device)


def _epoch(
    network: nn.Module,
    data: Any,
    loss: Callable[[Any, dict[str, Tensor]], Tensor],
    bf16: bool,
    device: torch.device,
) -> Side:
    network.to(device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4)

    def run() -> None:
        network.train()
        for batch in data:
            optimizer.zero_grad()
            given = {k: torch.as_tensor(batch[k]).to(device) for k in ("image", "label")}
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                out = network(given["image"])
            loss(out, given).backward()
            optimizer.step()

    return run


def main() -> None:
    """Measure everything and print it as JSON."""
    arguments = with_device(parser(__doc__)).parse_args()
    device = arguments.device
    one_thread()
    warnings.simplefilter("ignore")  # of the other side
    tiny = arguments.tiny
    sizes = {"edge": 64, "crop": 48, "patch": 8, "width": 192, "depth": 8, "heads": 6, "mlp": 768}
    if tiny:
        sizes |= {"edge": 32, "crop": 32, "width": 32, "depth": 3, "heads": 2, "mlp": 32}
    epochs, count, repeats = (2, 2, 1) if tiny else (20, 16, 3)
    batch = load_classify("small").batch_size
    with tempfile.TemporaryDirectory() as temporary:
        cohort = scans_with_labels(Path(temporary) / "cohort", count, sizes["edge"])
        classifier = alternate(
            {
                "ours": our_classifier(cohort, sizes, epochs, device),
                "MONAI fp32": monai_classifier(cohort, sizes, batch, False, device),
                "MONAI bf16": monai_classifier(cohort, sizes, batch, True, device),
            },
            repeats,
            device,
        )
        unetr = alternate(
            {
                "ours": our_unetr(cohort, sizes, Path(temporary) / "fit", device),
                "MONAI fp32": monai_unetr(cohort, sizes, False, device),
                "MONAI bf16": monai_unetr(cohort, sizes, True, device),
            },
            repeats,
            device,
        )
    least, tick = (3 if device.type == "cuda" else 2), clock(device)
    claims = []
    for what, times, loops in (
        (
            f"ViT classifier, last two blocks tuned, {epochs} epochs of {count} scans of "
            f"{sizes['edge']}³",
            classifier,
            epochs,
        ),
        (f"UNETR, one epoch of {count} crops of {sizes['crop']}³", unetr, 1),
    ):
        ours = times["ours"][tick]
        for precision in ("fp32", "bf16"):
            theirs = loops * times[f"MONAI {precision}"][tick]
            wanted = precision == "fp32"
            claims.append(
                claim(
                    f"{what}, against MONAI's loop with CacheDataset in {precision}",
                    ours, theirs, theirs / ours,
                    f"at least {least} times" if wanted else "beside",
                    theirs / ours >= least if wanted else None,
                )
            )  # fmt: skip
    publish(
        "finetune",
        claims,
        arguments.out,
        device,
        seconds={"classifier": classifier, "unetr": unetr},
    )


if __name__ == "__main__":
    main()
