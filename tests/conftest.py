"""One thread for everybody: sums split over threads differ in their last bits between machines."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
