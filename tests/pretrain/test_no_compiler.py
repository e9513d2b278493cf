"""torch.compile where nothing can be compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from volta3d.pretrain.trainer import Trainer


@pytest.mark.filterwarnings("ignore")  # of torch, about itself
def test_without_a_compiler_the_step_runs_as_it_is(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    monkeypatch.setattr(inductor.cpp, "cxx", ("/nowhere/g++",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    window = [np.array([0, 1])]
    found = []
    for compile_ in ("true", "false"):
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            made = trainer(f"compile={compile_}")
        told = [str(w.message) for w in noticed if "compile=true does nothing" in str(w.message)]
        assert len(told) == (compile_ == "true")
        made.start_statistics()
        found.append(made.window(window, 0, made.schedule.at(0)))
    torch._dynamo.reset()
    assert found[0] == found[1]
