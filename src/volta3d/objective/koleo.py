"""KoLeo: features of one batch are kept apart from their nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def koleo_loss(features: Tensor, epsilon: float = 1e-8) -> Tensor:
    """- mean log distance to the nearest other scan, features on the unit sphere.

    Args:
        features: [2, B, width], the scans of each global view; a scan is compared with the other
            scans of the same view only, never with its own second view.
        epsilon: keeps the logarithm of coinciding features finite.

    Returns:
        A scalar in fp32; 0 for a single scan, which has no neighbour.

    Source: METHOD section 10, idea 6 [C]; the Kozachenko-Leonenko entropy estimator.
    """
    scans = features.shape[1]
    if scans < 2:
        return features.sum() * 0.0
    with torch.autocast(features.device.type, enabled=False):
        unit = functional.normalize(features.float(), dim=-1)
        with torch.no_grad():
            cosines = unit @ unit.transpose(1, 2)
            cosines.diagonal(dim1=1, dim2=2).fill_(-2.0)
            nearest = cosines.argmax(-1)
        other = unit.gather(1, nearest.unsqueeze(-1).expand_as(unit))
        distance = (unit - other).square().sum(-1).add(epsilon**2).sqrt()
        return -distance.add(epsilon).log().mean()
