"""The preparation contract."""

from __future__ import annotations

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig


def test_every_setting_of_prepare_stands_in_the_contract() -> None:
    config = PrepareConfig(spacing=2, size=32, fit="pad", percentiles=(1, 99), margin=0)
    content = Contract.from_config(config).content()
    assert {k: content[k] for k in config.content()} == config.content()
    assert (content["storage"], content["value_range"]) == ("uint16", [0, 1])


def test_zscore_has_no_range_and_is_stored_in_halves() -> None:
    contract = Contract.from_config(PrepareConfig(scaling="zscore"))
    assert (contract.storage, contract.value_range) == ("float16", None)


def test_differences_name_what_changes_a_voxel_and_nothing_else() -> None:
    mine = Contract(label_names={1: "a"}, software="x", synthetic=True)
    assert mine.differences(Contract()) == []
    assert mine.differences(Contract(spacing=2)) == ["spacing: 1.0 -> 2.0"]
    assert mine.hash() != Contract().hash()
