"""Where the summariser looks, against the network itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from volta3d.model.summariser import Summariser
from volta3d.report.evidence import Absent
from volta3d.report.figures_attention import NEEDED, PREFIX, attention, read_looks

WIDTH, HEADS, EDGE = 12, 3, 2


def network() -> Summariser:
    torch.manual_seed(0)
    made = Summariser(WIDTH, HEADS)
    torch.nn.init.normal_(made.token)
    torch.nn.init.normal_(made.block.norm1.weight, 1.0, 0.2)
    torch.nn.init.normal_(made.block.norm1.bias)
    torch.nn.init.normal_(made.block.attention.qkv.weight)
    return made.double().eval()


def weights(made: Summariser) -> list[np.ndarray]:
    state = made.state_dict()
    return [state[name].numpy() for name in NEEDED]


def test_it_is_what_the_summariser_mixes_its_values_with() -> None:
    """Rebuild the attention block's output from these weights, head by head, value by value."""
    made = network()
    tokens = torch.randn(2, EDGE**3, WIDTH, dtype=torch.double)
    joined = torch.cat((made.token.expand(2, -1, -1), tokens), dim=1)
    normed = made.block.norm1(joined)
    query, key, value = made.block.attention.qkv(normed).chunk(3, dim=-1)
    size = WIDTH // HEADS
    mean, mixed = torch.zeros(2, 1 + EDGE**3), torch.zeros(2, WIDTH, dtype=torch.double)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for scan in range(2):
            scores = torch.stack([query[scan, 0, part] @ k for k in key[scan, :, part]])
            share = torch.softmax(scores / size**0.5, 0)
            mean[scan] += share / HEADS
            mixed[scan, part] = sum(s * v for s, v in zip(share, value[scan, :, part], strict=True))
    # the loop's own softmax gives what the network gives ...
    expected = made.block.attention(normed, rows=1)[:, 0]
    torch.testing.assert_close(made.block.attention.out(mixed), expected)
    # ... and numpy's the same shares; 1e-6: the loop collects them in fp32
    found = attention(tokens.numpy(), *weights(made), heads=HEADS)
    np.testing.assert_allclose(found, mean.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def write(folder: Path, made: Summariser) -> Path:
    (folder / "encoder").mkdir(parents=True)
    state = {PREFIX + k: v.float().numpy() for k, v in made.state_dict().items()}
    save_file(state, folder / "encoder" / "model.safetensors")
    config = {"model": {"summariser_heads": HEADS}}
    (folder / "encoder" / "config.json").write_text(json.dumps(config))
    draws = np.random.default_rng(0)
    tensors = {"volume": draws.random((2, 4, 4, 4)).astype(np.float32)}
    tensors["tokens"] = draws.normal(size=(2, EDGE**3, WIDTH)).astype(np.float32)
    save_file(tensors, folder / "patch-tokens.safetensors")
    return folder


def test_a_token_that_looks_everywhere_alike_has_share_one(tmp_path: Path) -> None:
    made = network()
    torch.nn.init.zeros_(made.block.attention.qkv.weight)
    run = write(tmp_path / "run", made)
    looks = read_looks(run, run / "patch-tokens.safetensors")
    assert not isinstance(looks, Absent)
    np.testing.assert_allclose(looks.shares, 1.0)
    np.testing.assert_allclose(looks.patches, EDGE**3)
    np.testing.assert_allclose(looks.itself, 1 / (1 + EDGE**3))


def test_what_is_missing_or_damaged_becomes_a_sentence(tmp_path: Path) -> None:
    run = write(tmp_path / "run", network())
    assert isinstance(read_looks(run, None), Absent)
    (run / "encoder" / "config.json").write_text("{[")
    assert isinstance(read_looks(run, run / "patch-tokens.safetensors"), Absent)
    (run / "encoder" / "model.safetensors").write_bytes(b"no")
    assert isinstance(read_looks(run, run / "patch-tokens.safetensors"), Absent)
