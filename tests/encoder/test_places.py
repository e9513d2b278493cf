"""Encoders by name: on the shelf, in the hub's cache, and what is said where they aren't."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from volta3d.cohort.store import Cohort
from volta3d.encoder.embed import embed
from volta3d.encoder.load import load_encoder
from volta3d.encoder.places import find_encoder, is_known, shelf
from volta3d.encoder.shelf_writer import LICENCE, write_shelf
from volta3d.errors import EncoderError, UsageError


@pytest.fixture
def weights_package(encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package ``volta3d_weights`` that holds one encoder."""
    package = tmp_path / "site" / "volta3d_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    write_shelf(encoder_folder, package / "volta3d-tiny")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "volta3d_weights", raising=False)
    return package


def test_the_shelf_holds_halves_with_card_and_licence(encoder_folder: Path, tmp_path: Path) -> None:
    size = write_shelf(encoder_folder, tmp_path / "volta3d-tiny")
    folder = tmp_path / "volta3d-tiny"
    names = {"model.safetensors", "config.json", "MODEL_CARD.md", LICENCE}
    assert {p.name for p in folder.iterdir()} == names
    assert "CC BY-SA 4.0" in (folder / LICENCE).read_text()
    halves = load_file(folder / "model.safetensors")
    assert {v.dtype for v in halves.values()} == {torch.float16}
    whole = load_file(encoder_folder / "model.safetensors")
    for name, value in load_encoder(folder).encoder.state_dict().items():
        # eleven bits of mantissa
        expected = whole[f"encoder.{name}"]
        torch.testing.assert_close(value, expected, rtol=2**-11, atol=1e-7)
    assert size == pytest.approx((folder / "model.safetensors").stat().st_size / 1e6)


def test_what_half_precision_cannot_hold_is_refused(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "volta3d.encoder.shelf_writer.read_tensors", lambda file: {"a": torch.tensor([1e6])}
    )
    with pytest.raises(EncoderError, match="too large for half precision: a"):
        write_shelf(encoder_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_on_the_shelf_is_an_encoder(weights_package: Path, cohort: Cohort) -> None:
    assert shelf()["volta3d-tiny"] == weights_package / "volta3d-tiny"
    assert is_known("volta3d-tiny") and not is_known("volta3d-none")
    assert load_encoder("volta3d-tiny").width == 16
    assert len(embed("volta3d-tiny", cohort.path)) == 6
    with pytest.raises(EncoderError, match="No encoder there"):
        load_encoder("volta3d-none")


def test_a_folder_comes_before_the_shelf(
    weights_package: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = encoder_folder.rename(encoder_folder.parent / "volta3d-tiny")
    monkeypatch.chdir(here.parent)
    assert find_encoder("volta3d-tiny") == Path("volta3d-tiny")


def test_the_packages_own_shelf_loads() -> None:
    for name, folder in shelf().items():
        assert load_encoder(name).path == folder
        assert (folder / "MODEL_CARD.md").is_file() and (folder / LICENCE).is_file()


def fake_hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return asked


def test_a_repository_of_the_hub_is_looked_for_in_the_cache_alone(
    encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_hub(monkeypatch, encoder_folder)
    assert load_encoder("hf-hub:somebody/brains@v2").path == encoder_folder
    expected = {"repository": "somebody/brains", "revision": "v2", "local_files_only": True}
    assert asked == [expected]


def test_a_repository_that_is_not_there_says_how_to_fetch_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_hub(monkeypatch, FileNotFoundError("no snapshot"))
    with pytest.raises(EncoderError, match="local cache") as refused:
        load_encoder("hf-hub:somebody/brains@v2")
    assert "hf download somebody/brains --revision v2" in refused.value.fix
    with pytest.raises(UsageError, match="Not a repository"):
        load_encoder("hf-hub:brains")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="need the package huggingface-hub"):
        find_encoder("hf-hub:somebody/brains")


def test_the_hub_s_own_library_finds_its_cache(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    root = tmp_path / "hub" / "models--somebody--brains"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("a" * 40)
    (root / "snapshots").mkdir()
    encoder_folder.rename(root / "snapshots" / ("a" * 40))
    original = hub.snapshot_download
    monkeypatch.setattr(
        hub, "snapshot_download", lambda *a, **k: original(*a, cache_dir=tmp_path / "hub", **k)
    )
    assert load_encoder("hf-hub:somebody/brains").width == 16
