"""``--arm NAME=SPEC``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from volta3d.arms import CLASSIFIER_TUNES, CLASSIFIERS, SEGMENTER_TUNES, SEGMENTERS, spec_help
from volta3d.arms.spec import ArmSpec, parse_arms
from volta3d.errors import UsageError


def parse(*texts: str) -> list[ArmSpec]:
    return parse_arms(texts, CLASSIFIERS, CLASSIFIER_TUNES)


def test_every_form(tmp_path: Path) -> None:
    folder = str(tmp_path)
    found = parse(
        f"volta={folder}",
        "vit=scratch",
        "vit2=scratch:small",
        "swin=swin",
        f"lin=linear:{folder}",
        f"ice=frozen:{folder}",
        "v=volume",
        "s=last:scratch",
        "u=linear:scratch",
    )
    assert [(a.name, a.kind, a.source, a.how) for a in found] == [
        ("volta", "encoder", folder, ""),
        ("vit", "scratch", "", ""),
        ("vit2", "scratch", "small", ""),
        ("swin", "swin", "", ""),
        ("lin", "linear", folder, ""),
        ("ice", "encoder", folder, "frozen"),
        ("v", "volume", "", ""),
        ("s", "scratch", "", "last"),
        ("u", "linear", "scratch", ""),
    ]
    assert found[0].path == tmp_path
    assert found[5].content() == {
        "name": "ice",
        "kind": "encoder",
        "source": folder,
        "how": "frozen",
    }


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ((), "Nothing to compare"),
        (("volta",), "NAME=SPEC"),
        (("=scratch",), "NAME=SPEC"),
        (("a=",), "NAME=SPEC"),
        (("../a=scratch",), "NAME=SPEC"),
        (("a=scratch", "A=swin"), "same name"),
        (("a=scratch", "a.seed1=swin"), "repetitions"),
        (("a=nowhere/encoder",), "Neither an encoder folder"),
        (("a=swim",), "swin"),
        (("a=linear:nowhere",), "Neither an encoder folder"),
        (("a=linear:swin",), "Neither an encoder folder"),
        (("a=frozen:swin",), "'frozen:' stands before an encoder folder or scratch"),
        (("a=last:full:scratch",), "'last:' stands before an encoder folder or scratch"),
        (("a=unet",), "Neither an encoder folder"),
        (("a=swn",), "Did you mean 'swin'"),
    ],
)
def test_what_is_not_an_arm_is_one_paragraph(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(*texts)


def test_help_speaks_of_every_kind_and_each_has_its_file() -> None:
    for kinds, tunes in ((CLASSIFIERS, CLASSIFIER_TUNES), (SEGMENTERS, SEGMENTER_TUNES)):
        text = spec_help(kinds, tunes)
        for word, kind in kinds.items():
            assert word in text
            module = import_module(f"volta3d.arms.{kind.module}")
            assert callable(module.resolve)
            assert callable(getattr(module, "load", None) or module.network)
        assert all(f"{tune}:" in text for tune in tunes)


def test_what_scratch_and_an_encoder_can_be_said_of_each(tmp_path: Path) -> None:
    texts = [f"a=staged:{tmp_path}", "b=last:scratch", "c=frozen:scratch:small", "d=unet"]
    found = parse_arms(texts, SEGMENTERS, SEGMENTER_TUNES)
    assert [(a.kind, a.source, a.how) for a in found] == [
        ("encoder", str(tmp_path), "staged"),
        ("scratch", "", "last"),
        ("scratch", "small", "frozen"),
        ("unet", "", ""),
    ]
    assert [a.has_encoder for a in found] == [True, False, False, False]
