"""The composition the paper describes, from MONAI's parts, for the benchmarks to stand beside.

Every view passes alone at batch 1; locals are resized to the globals' edge, because ViTAutoEnc's
position embeddings are fixed; the logits of all tokens are held; the teacher's average is a loop in
Python. Summariser and heads are volta3d's own, so that the difference is the composition.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from volta3d.config import PretrainConfig
from volta3d.model.heads import ProjectionHead
from volta3d.model.summariser import Summariser
from volta3d.objective.center import Center
from volta3d.objective.cls import cls_loss
from volta3d.objective.patch import patch_loss
from volta3d.views.batch import ViewBatch

CPU = torch.device("cpu")


class Network(nn.Module):
    """MONAI's ViTAutoEnc with a summariser and two heads."""

    def __init__(self, config: PretrainConfig) -> None:
        from monai.networks.nets import ViTAutoEnc

        super().__init__()
        m, edge = config.model, config.views.global_size
        self.encoder = ViTAutoEnc(
            in_channels=1,
            img_size=(edge,) * 3,
            patch_size=(m.patch_size,) * 3,
            hidden_size=m.width,
            mlp_dim=m.mlp,
            num_layers=m.depth,
            num_heads=m.heads,
            deconv_chns=m.decoder_channels,
        )
        self.summariser = Summariser(m.width, m.summariser_heads)
        sizes = (m.width, m.head_hidden, m.bottleneck, m.prototypes)
        self.cls_head, self.patch_head = ProjectionHead(*sizes), ProjectionHead(*sizes)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One view [1, 1, S, S, S] to (rebuilt, CLS logits, patch logits)."""
        rebuilt, hidden = self.encoder(view)
        tokens = self.encoder.norm(hidden[-1])
        return rebuilt, self.cls_head(self.summariser(tokens)), self.patch_head(tokens)

    def cls(self, view: Tensor) -> Tensor:
        """The CLS logits alone of one view [1, 1, S, S, S]; ViTAutoEnc rebuilds it all the same."""
        _, hidden = self.encoder(view)
        logits: Tensor = self.cls_head(self.summariser(self.encoder.norm(hidden[-1])))
        return logits


class ReferenceStep:
    """One micro-step at batch 1: forward of all views, three losses, backward, EMA.

    Args:
        config: sizes and weights; the plain recipe of the paper.
        bf16: under autocast.
        device: where it runs.
    """

    def __init__(self, config: PretrainConfig, *, bf16: bool, device: torch.device = CPU) -> None:
        self.config, self.bf16, self.device = config, bf16, device
        self.student = Network(config).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.centers = [Center(config.model.prototypes, 0.9).to(device) for _ in range(2)]

    def __call__(self, views: ViewBatch) -> None:
        """The views of one scan."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self._loss(views)
        loss.backward()
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for averaged, newest in pairs:
                averaged.mul_(0.996).add_(newest, alpha=0.004)
        self.student.zero_grad(set_to_none=True)

    def _loss(self, views: ViewBatch) -> Tensor:
        edge = (self.config.views.global_size,) * 3
        with torch.no_grad():
            seen = [self.teacher(view[None]) for view in views.global_views]
            cls = torch.stack([self.centers[0].distributions(one[1], 0.04) for one in seen])
            patch = torch.cat([self.centers[1].distributions(one[2], 0.04) for one in seen])
        passed = [self.student(view[None]) for view in views.corrupted]
        rebuilt = torch.cat([one[0] for one in passed]).float()
        squared = (rebuilt - views.global_views).square() * views.masks
        logits = [one[1] for one in passed]
        for view in views.local_views if views.local_views is not None else ():
            logits.append(self.student.cls(functional.interpolate(view[None], edge)))
        return (
            100 * squared.sum() / views.masks.sum()
            + cls_loss(cls, torch.stack(logits), 0.1)
            + patch_loss(patch, torch.cat([one[2] for one in passed]), 0.1)
        )
