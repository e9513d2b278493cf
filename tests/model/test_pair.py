"""Student and teacher: the copy, the average, determinism."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from volta3d.config import ModelConfig
from volta3d.errors import EncoderError
from volta3d.model.pair import Pair, build_pair

TINY = ModelConfig(
    patch_size=4, width=8, depth=2, heads=2, mlp=12, decoder_channels=2,
    summariser_heads=2, head_hidden=6, bottleneck=4, prototypes=5,
)  # fmt: skip


@pytest.fixture
def pair() -> Pair:
    return build_pair(TINY, image_size=8, seed=0)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def student_loss(pair: Pair, volumes: torch.Tensor) -> torch.Tensor:
    """A scalar that depends on every parameter of student and decoder, and on the teacher's."""
    total = torch.zeros(())
    for network in (pair.student, pair.teacher):
        tokens = network.encoder(volumes)
        cls = network.cls_head(network.summariser(tokens))
        total = total + cls.square().sum() + network.patch_head(tokens).square().sum()
        total = total + pair.decoder(tokens, (2, 2, 2)).square().sum()
    return total


def test_teacher_starts_as_a_copy_of_its_own(pair: Pair) -> None:
    assert torch.equal(flat(pair.student), flat(pair.teacher))
    storages = [p.data_ptr() for p in pair.parameters()]
    assert len(set(storages)) == len(storages)
    assert not hasattr(pair.teacher, "decoder")


def test_X7_the_teacher_gets_no_gradient(pair: Pair) -> None:
    assert not any(p.requires_grad for p in pair.teacher.parameters())
    volumes = torch.rand(1, 1, 8, 8, 8)
    student_loss(pair, volumes).backward()
    assert all(p.grad is None for p in pair.teacher.parameters())
    learning = [*pair.student.named_parameters(), *pair.decoder.named_parameters()]
    for name, parameter in learning:
        assert parameter.grad is not None and parameter.grad.any(), name


def test_the_teacher_stays_in_eval_mode(pair: Pair) -> None:
    outer = torch.nn.Sequential(pair)
    for mode in (True, False, True):
        assert outer.train(mode) is outer
        assert not any(module.training for module in pair.teacher.modules())
        assert {m.training for m in pair.student.modules()} == {mode}
        assert {m.training for m in pair.decoder.modules()} == {mode}


def test_X4_teacher_average_has_the_closed_form(pair: Pair) -> None:
    """t_n = m1..mn t_0 + sum_k (1 - m_k) m_(k+1)..m_n s_k, here with changing momentum."""
    generator = torch.Generator().manual_seed(3)
    momenta = [0.996, 0.9, 0.5, 0.3, 0.0, 0.99, 0.996]
    expected = flat(pair.teacher).double()
    students = []
    for momentum in momenta:
        for parameter in pair.student.parameters():
            parameter.data.normal_(generator=generator)
        students.append(flat(pair.student).double())
        pair.update_teacher(momentum)
    weight = 1.0
    total = torch.zeros_like(expected)
    for momentum, student in zip(reversed(momenta), reversed(students), strict=True):
        total += weight * (1 - momentum) * student
        weight *= momentum
    total += weight * expected
    # fp32, seven updates of values around 1
    torch.testing.assert_close(flat(pair.teacher).double(), total, rtol=0, atol=1e-6)


def test_X4_momentum_one_and_zero(pair: Pair) -> None:
    before = flat(pair.teacher)
    for parameter in pair.student.parameters():
        parameter.data.add_(1.0)
    pair.update_teacher(1.0)
    assert torch.equal(flat(pair.teacher), before)
    pair.update_teacher(0.0)
    torch.testing.assert_close(flat(pair.teacher), flat(pair.student), rtol=0, atol=1e-6)


def test_small_increments_are_not_lost(pair: Pair) -> None:
    """1000 updates with 1 - m = 1e-4 must close 9.5 % of the gap; in bf16 they close none."""
    before = flat(pair.teacher)
    for parameter in pair.student.parameters():
        parameter.data.add_(1.0)
    for _ in range(1000):
        pair.update_teacher(1 - 1e-4)
    moved = flat(pair.teacher) - before
    expected = 1 - (1 - 1e-4) ** 1000
    # rounding of 1000 additions near 1, 6e-8 each
    torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=0, atol=5e-5)


def test_a_teacher_below_fp32_is_refused(pair: Pair) -> None:
    pair.bfloat16()
    with pytest.raises(ValueError, match="fp32"):
        pair.update_teacher(0.996)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_outside_its_range_is_refused(pair: Pair, momentum: float) -> None:
    before = flat(pair.teacher)
    with pytest.raises(ValueError, match="momentum"):
        pair.update_teacher(momentum)
    assert torch.equal(flat(pair.teacher), before)


def test_buffers_are_copied(pair: Pair) -> None:
    for network in (pair.student, pair.teacher):
        network.register_buffer("count", torch.zeros(2, dtype=torch.int64))
    pair.student.count += 3
    pair.update_teacher(0.996)
    assert pair.teacher.count.tolist() == [3, 3]


def test_build_is_a_function_of_its_arguments_and_leaves_the_global_state() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build_pair(TINY, 8, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = build_pair(TINY, 8, seed=5)
    assert torch.equal(flat(first), flat(second))
    assert not torch.equal(flat(first), flat(build_pair(TINY, 8, seed=6)))


def test_more_prototypes_leave_the_other_parts_as_they_were(pair: Pair) -> None:
    other = build_pair(TINY.model_copy(update={"prototypes": 9}), 8, seed=0)
    assert torch.equal(flat(other.student.encoder), flat(pair.student.encoder))
    assert torch.equal(flat(other.decoder), flat(pair.decoder))
    assert torch.equal(flat(other.student.patch_head.mlp), flat(pair.student.patch_head.mlp))


def test_the_two_heads_differ(pair: Pair) -> None:
    assert not torch.equal(flat(pair.student.cls_head), flat(pair.student.patch_head))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(EncoderError, match="multiple of the patch size"):
        build_pair(TINY, image_size=10, seed=0)


def test_deepcopy_and_safetensors_round_trip(pair: Pair, tmp_path: Path) -> None:
    pair.update_teacher(0.9)
    twin = copy.deepcopy(pair)
    assert torch.equal(flat(twin), flat(pair))
    twin.student.encoder.norm.weight.data.zero_()
    assert pair.student.encoder.norm.weight.all()
    save_file(pair.state_dict(), tmp_path / "pair.safetensors")  # refuses shared storage
    twin.load_state_dict(load_file(tmp_path / "pair.safetensors"))
    assert torch.equal(flat(twin), flat(pair))
