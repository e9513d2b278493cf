"""The preparation contract."""

from __future__ import annotations

import pytest

from volta3d.cohort.contract import Contract
from volta3d.config import PrepareConfig, build
from volta3d.errors import ConfigError


def test_every_setting_of_prepare_stands_in_the_contract() -> None:
    config = PrepareConfig(
        spacing=2, size=32, fit="pad", percentiles=(1, 99), margin=0, skull_strip="mask", bias="n4"
    )
    content = Contract.from_config(config).content()
    wanted = {k: v for k, v in config.content().items() if k != "landmarks_from"}
    assert {k: content[k] for k in wanted} == wanted
    assert (content["storage"], content["value_range"]) == ("uint16", [0, 1])


def test_zscore_has_no_range_and_is_stored_in_halves() -> None:
    contract = Contract.from_config(PrepareConfig(scaling="zscore"))
    assert (contract.storage, contract.value_range) == ("float16", None)


def test_nyul_has_the_range_and_the_landmarks() -> None:
    contract = Contract.from_config(PrepareConfig(scaling="nyul"), landmarks=(0, 0.5, 1))
    assert (contract.storage, contract.value_range) == ("uint16", (0, 1))
    assert contract.content()["landmarks"] == [0, 0.5, 1]
    assert build(Contract, contract.content()) == contract


def test_differences_name_what_changes_a_voxel_and_nothing_else() -> None:
    mine = Contract(label_names={1: "a"}, software="x", synthetic=True)
    assert mine.differences(Contract()) == []
    assert mine.differences(Contract(spacing=2)) == ["spacing: 1.0 -> 2.0"]
    assert mine.differences(Contract(bias="n4")) == ["bias: none -> n4"]
    assert Contract(bias="n4").differences(mine) == ["bias: n4 -> none"]
    assert mine.hash() != Contract().hash()


def test_a_field_added_since_leaves_the_hash_of_older_cohorts_alone() -> None:
    # the hash of the default contract as version 0.1.0 first wrote it, with none of the new keys
    assert Contract(software="volta3d 0.1.0").hash() == "67e2dee9ae9a9762"
    assert not {"bias", "landmarks"} & set(Contract().content())
    assert "bias" in Contract(bias="n4").content()


@pytest.mark.parametrize("wrong", ["percentiles=[99, 1]", "percentiles=[0, 101]"])
def test_percentiles_rise_within_a_hundred(wrong: str) -> None:
    with pytest.raises(ConfigError, match="percentiles must rise"):
        build(PrepareConfig, {}, [wrong])


def test_landmarks_belong_to_nyul() -> None:
    with pytest.raises(ConfigError, match="needs scaling=nyul"):
        build(PrepareConfig, {}, ["landmarks_from=a.json"])
