"""Folds by subject, stratified, nested, hashed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volta3d.errors import UsageError, VoltaError
from volta3d.statistics.folds import hold_out, k_fold, leave_one_out_folds
from volta3d.statistics.splits import FINAL, NEVER, read_splits

SEX = {f"sub-{i:02d}": float(i % 3 == 0) for i in range(60)}  # 20 of one class, 40 of the other


def splits(seeds: tuple[int, ...] = (0, 1), seed: int = 0):  # type: ignore[no-untyped-def]
    return k_fold(SEX, folds=5, seed=seed, categorical=True, seeds=seeds)


def test_L1_each_subject_is_tested_once_and_never_where_it_trains() -> None:
    found = splits()
    tested = Counter(s for fold in range(5) for s in found.part(fold).test)
    assert tested == Counter(SEX.keys())
    for fold in range(5):
        for fraction in (0.2, 0.6, 1.0):
            part = found.part(fold, fraction=fraction, seed=1)
            groups = [set(part.train), set(part.inner), set(part.test)]
            assert sum(map(len, groups)) == len(set.union(*groups))  # no subject in two


def test_folds_and_inner_parts_hold_both_classes_in_their_shares() -> None:
    found = splits()
    for fold in range(5):
        part = found.part(fold)
        assert sum(SEX[s] for s in part.test) == 4 and len(part.test) == 12
        assert sum(SEX[s] for s in part.inner) in (3, 4) and len(part.inner) in (9, 10)


def test_L10_fractions_are_nested_and_test_folds_stay() -> None:
    found = splits()
    for seed in (0, 1):
        for fold in range(5):
            before = found.part(fold, fraction=0.1, seed=seed)
            for fraction in (0.2, 0.4, 0.6, 0.8, 1.0):
                part = found.part(fold, fraction=fraction, seed=seed)
                assert set(before.train) <= set(part.train)
                assert set(before.inner) <= set(part.inner)
                assert part.test == found.part(fold).test
                chosen = [*part.train, *part.inner]
                assert len(chosen) == pytest.approx(fraction * 48, abs=1.01)
                assert sum(SEX[s] for s in chosen) == pytest.approx(fraction * 16, abs=0.51)
                before = part


def test_another_seed_is_another_subset_of_the_same_training_part() -> None:
    found = splits()
    first, second = found.part(0, fraction=0.5, seed=0), found.part(0, fraction=0.5, seed=1)
    assert first.train != second.train and first.test == second.test
    assert splits(seeds=(1,)).part(2, seed=1) == found.part(2, seed=1)  # seeds are independent


def test_the_final_part_trains_on_everybody() -> None:
    part = splits().part(FINAL)
    assert part.test == () and {*part.train, *part.inner} == set(SEX)


def test_L9_the_file_is_hashed_and_a_change_is_refused(tmp_path: Path) -> None:
    found = k_fold(SEX, folds=5, seed=3, categorical=True, about={"target": "sex"})
    path = tmp_path / "folds.json"
    found.write(path)
    assert read_splits(path) == found and read_splits(path).hash == found.hash
    assert found.hash != splits().hash
    for key, change in (("subjects", {"sub-00": ["class 1", 0]}), ("orders", {}), ("hash", "x")):
        content = json.loads(path.read_text())
        if isinstance(change, dict) and change:
            content[key] |= change
        else:
            content[key] = change
        (tmp_path / "changed.json").write_text(json.dumps(content))
        with pytest.raises(VoltaError, match=r"changed|Not a file of folds"):
            read_splits(tmp_path / "changed.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(VoltaError, match="Not a file of folds"):
        read_splits(tmp_path / "list.json")


def test_R1_the_same_call_gives_the_same_folds() -> None:
    reordered = dict(sorted(SEX.items(), reverse=True))
    assert k_fold(reordered, folds=5, seed=0, categorical=True, seeds=(0, 1)) == splits()


def test_numbers_are_dealt_by_their_order() -> None:
    ages = {f"s{i}": 20.0 + i for i in range(50)}
    found = k_fold(ages, folds=5, seed=0, categorical=False)
    for fold in range(5):
        test = [ages[s] for s in found.part(fold).test]
        assert len(test) == 10 and abs(sum(test) / 10 - 44.5) < 3


def test_a_hold_out_is_tested_once_and_the_others_never() -> None:
    found = hold_out(SEX, fraction=0.2, seed=0, categorical=True)
    part = found.part(0)
    assert len(part.test) == 12 and sum(SEX[s] for s in part.test) == 4
    assert sorted(found.fold.values()).count(NEVER) == 48
    assert {*part.train, *part.inner} == set(SEX) - set(part.test)


def test_T10_a_class_rarer_than_the_folds_is_an_error_that_says_so() -> None:
    rare = {f"s{i}": float(i < 3) for i in range(40)}
    with pytest.raises(UsageError, match="3 subjects, fewer than 5 folds"):
        k_fold(rare, folds=5, seed=0, categorical=True)
    with pytest.raises(UsageError, match="4 subjects cannot be dealt"):
        k_fold({f"s{i}": 0.5 * i for i in range(4)}, folds=5, seed=0, categorical=False)
    with pytest.raises(UsageError, match="at least two"):
        k_fold(SEX, folds=1, seed=0, categorical=True)
    with pytest.raises(UsageError, match="one side empty"):
        hold_out({"a": 0.0}, fraction=0.5, seed=0, categorical=True)
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="fraction"):
            splits().part(0, fraction=fraction)


@settings(max_examples=40, deadline=None)
@given(
    ones=st.integers(2, 30),
    zeros=st.integers(2, 30),
    fraction=st.floats(0.01, 1),
    fold=st.sampled_from([0, 1, FINAL]),
)
def test_any_fraction_leaves_both_classes_to_train_on(
    ones: int, zeros: int, fraction: float, fold: int
) -> None:
    values = {f"a{i}": 1.0 for i in range(ones)} | {f"b{i}": 0.0 for i in range(zeros)}
    part = k_fold(values, folds=2, seed=0, categorical=True).part(fold, fraction=fraction)
    assert {values[s] for s in part.train} == {0.0, 1.0}


SITES = [(s, "abc"[i % 7 % 3]) for i, s in enumerate(SEX)]


def by_site(levels: list[tuple[str, str]]):  # type: ignore[no-untyped-def]
    return leave_one_out_folds(
        SEX, levels, column="site", seed=0, categorical=True, about={"target": "sex"}
    )


def test_L1_each_site_is_tested_by_models_that_saw_nobody_of_it(tmp_path: Path) -> None:
    found = by_site([*SITES, *SITES[:5], ("stranger", "elsewhere")])
    assert found.folds == 3 and found.about["levels"] == ["a", "b", "c"]
    for fold, name in enumerate("abc"):
        part = found.part(fold)
        assert set(part.test) == {s for s, site in SITES if site == name}
        assert set(part.train) | set(part.inner) == {s for s, site in SITES if site != name}
        assert {SEX[s] for s in part.inner} == {0.0, 1.0}
    found.write(tmp_path / "folds.json")
    assert read_splits(tmp_path / "folds.json").content() == found.content()


@pytest.mark.parametrize(
    ("levels", "what"),
    [
        ([*SITES, ("sub-00", "b")], "sub-00 has scans of site 'a' and of 'b', and"),
        (SITES[1:], "site of 1 subjects is not known, the first is sub-00"),
        ([(s, " ") for s, _ in SITES], "site of 60 subjects is not known"),
        ([(s, "a") for s, _ in SITES], "at least two values of it, and all subjects have 'a'"),
        ([(s, "a" if SEX[s] else "b") for s in SEX], "only in site 'b': a model fitted on the oth"),
    ],
)
def test_T10_sites_that_cannot_be_left_out_are_one_paragraph(
    levels: list[tuple[str, str]], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        by_site(levels)
