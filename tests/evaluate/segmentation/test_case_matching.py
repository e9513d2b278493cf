"""Names of label maps and of references that mean the same scan."""

from __future__ import annotations

import pytest

from volta3d.evaluate.segmentation.case_matching import partners


@pytest.mark.parametrize(
    ("reference", "other", "pairs"),
    [
        (["sub-1", "sub-2"], ["sub-1", "sub-3"], {"sub-1": "sub-1"}),
        # what predict makes of plain names
        (["hippocampus_001"], ["sub-hippocampus001"], {"hippocampus_001": "sub-hippocampus001"}),
        (["ADNI_002_S_0295"], ["sub-ADNI002S0295"], {"ADNI_002_S_0295": "sub-ADNI002S0295"}),
        (["bert"], ["Bert_desc-volta3d"], {"bert": "Bert_desc-volta3d"}),
        (["OAS1-61"], ["OAS1_61_hippocampus_mask"], {"OAS1-61": "OAS1_61_hippocampus_mask"}),
        # entities that predictions dropped
        (["sub-1_ses-2_run-1"], ["sub-1_ses-2"], {"sub-1_ses-2_run-1": "sub-1_ses-2"}),
        (["sub-1_acq-mprage_run-1"], ["sub-1"], {"sub-1_acq-mprage_run-1": "sub-1"}),
        (["sub-A1_run-1"], ["A_1"], {"sub-A1_run-1": "A_1"}),
    ],
)
def test_one_scan_under_two_names(
    reference: list[str], other: list[str], pairs: dict[str, str]
) -> None:
    assert partners(reference, other) == pairs
    assert partners(other, reference) == {theirs: mine for mine, theirs in pairs.items()}


@pytest.mark.parametrize(
    ("reference", "other"),
    [
        (["sub-1_run-1", "sub-1_run-2"], ["sub-1"]),  # which run?
        (["sub-1_acq-a"], ["sub-1_acq-b"]),
        (["a_1", "a-1"], ["sub-a1"]),
        (["a_1_23"], ["a_12_3"]),  # words that end elsewhere
        (["sub-1_ses-1"], ["sub-1_ses-2"]),
        (["sub-1_ses-1"], ["sub-1"]),  # the session isn't guessed
        (["patient 1"], ["patient 2"]),
    ],
)
def test_what_is_not_clear_is_not_paired(reference: list[str], other: list[str]) -> None:
    assert partners(reference, other) == {} == partners(other, reference)


def test_the_same_name_comes_before_a_similar_one() -> None:
    assert partners(["a_1"], ["a_1", "sub-a1"]) == {"a_1": "a_1"}
    assert partners(["a_1", "sub-a1"], ["sub-a1"]) == {"sub-a1": "sub-a1"}
