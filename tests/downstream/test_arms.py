"""``--arm NAME=SPEC``."""

from __future__ import annotations

from pathlib import Path

import pytest

from volta3d.downstream.arms import Arm, parse_arms
from volta3d.errors import UsageError

WORDS = ("scratch", "swin", "volume")


def parse(*texts: str) -> list[Arm]:
    return parse_arms(texts, words=WORDS, uses=("linear",), hows=("frozen", "last", "full"))


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
        ("u", "scratch", "", "linear"),
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
    ],
)
def test_what_is_not_an_arm_is_one_paragraph(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(*texts)
