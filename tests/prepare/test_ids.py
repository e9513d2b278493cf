"""Ids of a table and of scans: compared exactly before anything is stripped."""

from __future__ import annotations

from volta3d.prepare.ids import bare, compact, match_ids


def test_exact_before_anything_is_stripped() -> None:
    found = match_ids(["sub-1", "sub-01", "sub-001"], ["sub-01", "sub-001", "sub-1"])
    assert all(ours == theirs for ours, theirs in found.found.items()) and len(found.found) == 3


def test_case_prefix_punctuation_and_zeros_in_this_order() -> None:
    for theirs in ("SUB-01", "01", "sub_01", "1", "1.0"):
        assert match_ids(["sub-01"], [theirs, "77"]).found == {"sub-01": theirs}
    assert match_ids(["sub-s001b"], ["S-1-B"]).found == {"sub-s001b": "S-1-B"}
    assert match_ids(["002_S_0295"], ["2_S_295"]).found == {"002_S_0295": "2_S_295"}


def test_a_row_belongs_to_the_id_that_is_nearer() -> None:
    found = match_ids(["sub-01", "sub-1"], ["1"])
    assert found.found == {"sub-1": "1"} and not found.unclear


def test_an_ambiguity_pairs_nobody() -> None:
    found = match_ids(["sub-01"], ["1", "001"])
    assert not found.found and found.unclear == {"sub-01": ("1", "001")}
    found = match_ids(["sub-01", "sub-001"], ["1"])
    assert not found.found and set(found.unclear) == {"sub-01", "sub-001"}


def test_numbers_that_differ_stay_apart() -> None:
    assert not match_ids(["sub-10"], ["1", "100", "010a"]).found
    assert not match_ids(["sub-"], [""]).found


def test_bare_and_compact() -> None:
    assert bare("Sub-A_01 ") == "a_01" and compact("ses-A_0.1") == "a01"
