"""Configuration: strict about keys, plain data only, complete when written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import volta3d
from volta3d.config import (
    PrepareConfig,
    PretrainConfig,
    build,
    load_own,
    load_pretrain,
    parse_yaml,
    presets,
)
from volta3d.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "named"),
    [("epoch", "epochs"), ("views.global_sise", "views.global_size"), ("lrr", "lr")],
)
def test_an_unknown_key_names_the_nearest(key: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"Unknown key.*{named}") as caught:
        load_pretrain("smoke", [f"{key}=1"])
    assert caught.value.exit_code == 2


def test_S12_instantiation_keys_are_unknown_keys() -> None:
    with pytest.raises(ConfigError, match="Unknown key"):
        build(PretrainConfig, {"_target_": "os.system", "epochs": 1})


def test_yaml_makes_plain_data_only(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    text = (
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{ran}']]"
    )
    with pytest.raises(ConfigError, match="YAML"):
        parse_yaml(text, where="x")
    with pytest.raises(ConfigError, match="YAML"):
        build(PretrainConfig, {}, [f"epochs={text}"])
    assert not ran.exists()
    with pytest.raises(ConfigError, match="mapping"):
        parse_yaml("- a\n- b", where="x")
    assert parse_yaml("", where="x") == {}


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("lr=1e-4", ("lr",), 1e-4),
        ("epochs=3", ("epochs",), 3),
        ("views.global_scale=[0.5, 0.9]", ("views", "global_scale"), (0.5, 0.9)),
        ("views.isotropic=true", ("views", "isotropic"), True),
        ("objective.cls_student=clean", ("objective", "cls_student"), "clean"),
    ],
)
def test_assignments(assignment: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_pretrain("smoke", [assignment])
    for name in path:
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "wrong",
    ["epochs=0", "epochs=many", "lr=-1", "views.flip=2", "masking.ratio=1", "epochs", "views=3"],
)
def test_wrong_values_are_refused_with_their_key(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_pretrain("smoke", [wrong])
    assert wrong.partition("=")[0] in str(caught.value)


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="patch_size"):
        load_pretrain("smoke", ["views.global_size=33"])
    with pytest.raises(ConfigError, match="heads"):
        load_pretrain("smoke", ["model.heads=5"])


@pytest.mark.parametrize("name", presets())
def test_yaml_round_trip_keeps_content_and_hash(name: str) -> None:
    config = load_pretrain(name)
    again = build(PretrainConfig, yaml.safe_load(config.to_yaml()))
    assert again == config and again.hash() == config.hash()
    assert load_pretrain(name, ["seed=1"]).hash() != config.hash()


def test_a_yaml_file_is_a_preset_and_a_wrong_name_offers_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 7\nviews:\n  locals: 2\n")
    config = load_pretrain(str(file))
    assert (config.epochs, config.views.locals, config.lr) == (7, 2, PretrainConfig().lr)
    with pytest.raises(ConfigError, match="'small'"):
        load_pretrain("smal")


def test_science_leaves_housekeeping_out_and_nothing_else() -> None:
    plain = load_pretrain("smoke")
    tidy = ["checkpoint_minutes=1", "checkpoint_steps=7", "keep_checkpoints=5", "device=cpu"]
    kept = load_pretrain("smoke", [*tidy, "monitor.alarm=stop", "monitor.alarm_after_epochs=3"])
    assert plain.science() == kept.science() and plain.hash() != kept.hash()
    assert plain.science() != load_pretrain("smoke", ["precision=bf16"]).science()


def test_every_value_of_a_preset_has_its_source() -> None:
    """The preset that is the paper names every setting, each with [S], [I] or [C]."""
    from importlib import resources

    text = (resources.files("volta3d") / "presets" / "paper.yaml").read_text("utf-8")
    untagged = [
        line
        for line in text.splitlines()
        if ": " in line
        and not line.lstrip().startswith("#")
        and not any(tag in line for tag in ("[S]", "[I]", "[C]"))
    ]
    assert untagged == []
    assert PrepareConfig().size == 128


@pytest.mark.parametrize(
    "assignment",
    [
        "views.global_scale=[0.9, 0.2]",
        "views.local_scale=[0, 0.5]",
        "optim.betas=[0.9, 1.0]",
        "optim.momentum=[0.99, 1.5]",
        "objective.teacher_temperature=[0, 0]",
        "model.prototypes=1",
        "lr=.inf",
    ],
)
def test_O7_values_that_cannot_work_are_refused_before_any_work(assignment: str) -> None:
    with pytest.raises(ConfigError, match=assignment.split("=")[0]):
        load_pretrain("smoke", [assignment])


def test_a_preset_of_ones_own_is_recorded_by_its_files_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\n", encoding="utf-8")
    assert load_pretrain(str(file)).preset == "mine"
    file.write_bytes(b"epochs: 3 # \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_pretrain(str(file))


def test_a_run_that_goes_on_keeps_its_own_settings(tmp_path: Path) -> None:
    own = load_pretrain("smoke", ["epochs=7", "views.rotation=5"])
    (tmp_path / "config.yaml").write_text(own.to_yaml(), encoding="utf-8")
    assert load_own(tmp_path, None) == own
    assert load_own(tmp_path, None, ["device=cpu"]).device == "cpu"
    assert load_own(tmp_path, "small") == load_pretrain("small")  # said outright
    assert load_own(tmp_path / "none", None) == load_pretrain("stable")  # nothing to go on with


def test_centres_start_from_a_first_look_everywhere_but_in_the_paper_s_preset() -> None:
    looked = {name: load_pretrain(name).objective.start_statistics for name in presets()}
    assert looked.pop("paper") == 0
    assert set(looked.values()) == {64}


@pytest.mark.parametrize("name", ["small", "demo"])
def test_every_value_that_differs_from_stable_says_why(name: str) -> None:
    folder = Path(volta3d.__file__).parent / "presets"
    stable = load_pretrain("stable").content()
    group = ""
    for line in (folder / f"{name}.yaml").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        said, _, why = line.partition("#")
        key, _, value = said.partition(":")
        if not value.strip():
            group = key
            continue
        theirs = stable[group] if line.startswith(" ") else stable
        if theirs[key.strip()] != yaml.safe_load(value):
            reason = why.replace("[C]", "").replace("[I]", "").replace("[S]", "").strip()
            assert len(reason) > 8, f"{name}: {line}"
