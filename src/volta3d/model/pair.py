"""Student and teacher: the same network twice, the second one an average over the first's past."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from volta3d.config import ModelConfig
from volta3d.model.decoder import Decoder
from volta3d.model.heads import ProjectionHead
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed


class Network(nn.Module):
    """Encoder, summariser and the two heads: what student and teacher share in form.

    The patch head works on the encoder's tokens with an MLP of its own (METHOD section 4, [C]).
    """

    def __init__(
        self,
        encoder: Encoder,
        summariser: Summariser,
        cls_head: ProjectionHead,
        patch_head: ProjectionHead,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.summariser = summariser
        self.cls_head = cls_head
        self.patch_head = patch_head


class Pair(nn.Module):
    """Student, its decoder, and the teacher that starts as the student's copy.

    The teacher has no gradient and is always in eval mode (METHOD section 4).
    """

    def __init__(self, student: Network, decoder: Decoder) -> None:
        super().__init__()
        self.student = student
        self.decoder = decoder
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.teacher.eval()

    def train(self, mode: bool = True) -> Self:
        """Student and decoder to ``mode``; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student; buffers are copied.

        Raises:
            ValueError: ``momentum`` outside [0, 1], or a teacher below fp32, where an increment
                of .4 % would be rounded away.
        """
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"the teacher's momentum lies in [0, 1], got {momentum}")
        averaged: list[Tensor] = list(self.teacher.parameters())
        if any(torch.finfo(parameter.dtype).bits < 32 for parameter in averaged):
            raise ValueError("the teacher's average needs parameters in fp32; use autocast instead")
        newest = [parameter.detach() for parameter in self.student.parameters()]
        # lerp adds (1 - momentum) * (student - teacher): nothing moves where the two are equal
        torch._foreach_lerp_(averaged, newest, 1.0 - momentum)
        for kept, current in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            kept.copy_(current)


def build_pair(config: ModelConfig, image_size: int, seed: int) -> Pair:
    """A fresh pair on the CPU in fp32, a pure function of its arguments.

    Each part draws from a generator of its own, so another number of prototypes leaves the
    encoder's start as it was. The global random state is left as it was found.

    Raises:
        EncoderError: ``image_size`` is not a multiple of the patch size.
    """
    c = config

    def head() -> ProjectionHead:
        return ProjectionHead(c.width, c.head_hidden, c.bottleneck, c.prototypes)

    def keyed(part: str) -> None:
        # not torch.manual_seed: that would seed the accelerators too
        torch.default_generator.manual_seed(derived_seed(seed, "model", part))

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        keyed("encoder")
        encoder = Encoder(image_size, c.patch_size, c.width, c.depth, c.heads, c.mlp)
        keyed("summariser")
        summariser = Summariser(c.width, c.summariser_heads)
        keyed("cls_head")
        cls_head = head()
        keyed("patch_head")
        patch_head = head()
        keyed("decoder")
        decoder = Decoder(c.patch_size, c.width, c.decoder_channels)
    return Pair(Network(encoder, summariser, cls_head, patch_head), decoder)
