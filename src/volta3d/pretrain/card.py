"""The model card: what an encoder is, what it saw, how it did, what it is not for."""

from __future__ import annotations

from typing import Any

from volta3d.objective.terms import TERMS

_TEMPLATE = """\
# volta3d encoder
{synthetic}
## What it is

A 3D vision transformer for T1-weighted brain MRI with {parameters:,} parameters, pretrained \
without labels by student-teacher distillation and masked reconstruction. From one prepared scan \
it makes a summary token and one token per patch, each a vector of {width} numbers. These are the \
teacher's weights.

{architecture}

## What it saw

{data}

## How scans must be prepared

The contract travels in `config.json`; volta3d applies it by itself and refuses scans that \
contradict it.

{contract}

## How it was trained

Objective: {objective}.

{training}

## The last monitors

Measured on scans it was trained on, but for people held out: whether training lived, not how \
well it generalises.

{monitors}
{alarms}
## Limits

- Not a medical device. Not for diagnosis, treatment or any decision about a person.
- It has seen only the scans above; on other scanners, ages, sequences or diseases it may fail \
without a sign. Check it on your own data, and against the volume-only baseline of `volta3d probe`.
- Scans that were used here must not be called unseen later: test only on other participants.
- Features can reveal age, sex and the archive a scan came from. Treat them like the scans.
- It starts from random numbers: no weights of other models went into it.

## Licence

The software that made it is under Apache-2.0. The weights are derived from the data named above: \
their use is bound by the terms under which those data were shared, and volta3d grants no rights \
in them.

## How to use it

    volta3d embed ENCODER COHORT --out features.parquet
    volta3d probe ENCODER COHORT --target age

    from volta3d.encoder.load import load_encoder
    # volumes: prepared cubes [batch, 1, {size}, {size}, {size}]
    features = load_encoder("ENCODER").features(volumes)
    features["token"], features["mean"], features["patches"]
"""

_SYNTHETIC = """
> **SYNTHETIC DATA. These weights were trained on synthetic phantoms, not on scans of people. They
> show that the software works and are of no other use.**
"""

_MONITORS = {
    "epoch": "epoch",
    "information": "information over scans (nat)",
    "teacher_entropy": "teacher entropy / ln K",
    "mean_entropy": "entropy of the mean / ln K",
    "prototypes_used": "prototypes in use",
    "effective_rank": "effective rank",
    "icc": "share of variance between scans",
    "mean_cosine": "mean cosine between scans",
    "feature_std": "feature standard deviation",
}


def model_card(content: dict[str, Any]) -> str:
    """The card as Markdown.

    Args:
        content: of the encoder's config.json.
    """
    facts, model, run = content["facts"], content["model"], content["pretraining"]
    contract = content["contract"]
    monitors: dict[str, Any] = facts.get("monitors") or {}
    alarms = facts.get("alarms") or []
    return _TEMPLATE.format(
        synthetic=_SYNTHETIC if contract["synthetic"] or facts.get("synthetic") else "",
        parameters=content["parameters"],
        width=model["width"],
        size=contract["size"],
        architecture=table(
            {
                "input": f"{content['image_size']} voxels an edge",
                "patch": f"{model['patch_size']} voxels an edge",
                **_scale(content.get("scale")),
                "blocks": model["depth"],
                "heads": model["heads"],
                "MLP": model["mlp"],
            }
        ),
        data=table(
            {
                "scans": facts.get("scans"),
                "participants": facts.get("participants"),
                "data sets": ", ".join(map(str, facts.get("datasets") or [])),
                "synthetic": "yes" if contract["synthetic"] or facts.get("synthetic") else "no",
                "hash of the data": facts.get("data_hash"),
            }
            | _excluded(facts.get("excluded"))
        ),
        contract=table(
            {k: v for k, v in contract.items() if k not in ("synthetic", "label_names")}
            | {"then average-pooled by": content["downsample"]}
        ),
        objective=objective_of(run["objective"]),
        training=table(_training(content, facts, run)),
        monitors=table(
            {text: monitors.get(key) for key, text in _MONITORS.items() if key in monitors}
            | _agreement(monitors.get("agreement"))
            | _probe(monitors.get("probe"))
        ),
        alarms=f"\n**Alarms while training: {cell(', '.join(alarms))}.**\n" if alarms else "",
    )


def objective_of(objective: dict[str, Any]) -> str:
    """The loss terms that are on and their weights; those the encoder's release lacked are off."""
    weights = {term.phrase: objective.get(term.name, 0.0) for term in TERMS}
    return "; ".join(f"{text} (weight {weight:g})" for text, weight in weights.items() if weight)


def _scale(scale: Any) -> dict[str, Any]:
    """The millimetres it saw, as rows; {} for encoders of releases that didn't measure them."""
    if not isinstance(scale, dict):
        return {}
    return {
        "voxel of a view": f"{scale['voxel_mm']:.3g} mm",
        "token": f"{scale['token_mm']:.3g} mm an edge",
        "view": f"{scale['view_edge_mm']:.3g} mm an edge",
        "measured on": f"{scale['measured_on']} scans, by their affines",
    }


def _excluded(excluded: Any) -> dict[str, Any]:
    """Whose scans were left out, as a row; {} when nobody's were asked to be."""
    if not excluded:
        return {}
    return {"left out": f"{excluded['scans']} scans of people in {', '.join(excluded['against'])}"}


def _training(
    content: dict[str, Any], facts: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    views, optim, objective = run["views"], run["optim"], run["objective"]
    return {
        "preset": content["preset"],
        "software": content["software"],
        "steps": facts.get("steps"),
        "epochs": run["epochs"],
        "batch": f"{run['batch_size']} scans, accumulated {run['accumulate']} times",
        "views": f"2 global of {views['global_size']}, {views['locals']} local of "
        f"{views['local_size']} voxels",
        "masked": f"{run['masking']['ratio']:.0%} of the voxels",
        "optimiser": f"AdamW, lr {run['lr']:g}, weight decay {optim['weight_decay']}",
        "teacher momentum": f"{optim['momentum']}, per {optim['cadence'].replace('_', ' ')}",
        "temperatures": f"student {objective['student_temperature']:g}, "
        f"teacher {objective['teacher_temperature']}",
        "prototypes": run["model"]["prototypes"],
        "seed": run["seed"],
    }


def _agreement(found: Any) -> dict[str, Any]:
    """How far two views of a scan agree, as rows; {} where nobody measured it."""
    if not isinstance(found, dict):
        return {}
    of = f"{found['scans']} people " + ("held out" if found["held_out"] else "trained on")
    return {
        f"other view nearest of all, by the token ({of})": found["retrieval"],
        f"other view nearest of all, by the mean of patches ({of})": found["retrieval_mean"],
        "teacher's cross-entropy within a scan (nat)": found["entropy_within"],
        "teacher's cross-entropy between scans (nat)": found["entropy_between"],
    }


def _probe(probe: Any) -> dict[str, Any]:
    """The monitor's probe as rows of a table."""
    if not isinstance(probe, dict):
        return {}
    return {
        f"probe on {probe.get('column')} from the {features} ({metric})": score
        for features in ("token", "mean")
        if isinstance(probe.get(features), dict)
        for metric, score in probe[features].items()
    }


def table(rows: dict[str, Any]) -> str:
    """A Markdown table with two columns; an empty one says so."""
    if not rows:
        return "None recorded."
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {cell(k)} | {cell(v)} |" for k, v in rows.items())]
    )


def cell(value: Any) -> str:
    """A value as inert text in a cell: one line, no Markdown table or HTML of its own."""
    if value is None or value == "":
        return "unknown"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("|", "\\|").replace("`", "'")
