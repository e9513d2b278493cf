"""A methods section written from the resolved configuration, to be edited into a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volta3d.config import PretrainConfig
from volta3d.objective.terms import active
from volta3d.report.runfolder import Run
from volta3d.report.style import number

PROBING = (
    "Features were probed with linear models and nearest neighbours [@sklearn], cross-validated by "
    "participant, beside those of the same encoder before training and beside head and brain "
    "volume alone; 95 % intervals are percentiles over resampled participants."
)


def _said(value: object) -> str:
    return number(value, 6, trim=True)


def methods(run: Run, contract: dict[str, Any] | None, *, probed: bool) -> list[str]:
    """The paragraphs, with citations as ``[@key]``; [] when the configuration is unknown.

    Args:
        run: whose configuration is told.
        contract: how its cohort was prepared, None if unknown.
        probed: whether its features were probed.
    """
    config = run.config
    if config is None:
        return []
    return [
        _data(run, config, contract),
        _network(config),
        f"{_views(config)} {_masking(config)}",
        _objective(config),
        _optimisation(run, config),
        _monitoring(run, config) + (f" {PROBING}" if probed else ""),
    ]


def _data(run: Run, config: PretrainConfig, contract: dict[str, Any] | None) -> str:
    datasets = sorted(
        {str(d) for c in run.cohorts for d in c.get("datasets") or [] if isinstance(d, str)}
    )
    count = "an unknown number of" if run.scans is None else _said(run.scans)
    synthetic = len(run.synthetic)
    kind = "synthetic " if synthetic and synthetic == len(run.cohorts) else ""
    text = f"Pretraining used {count} {kind}T1-weighted MRI scans"
    if datasets:
        text += f" ({_and(datasets)})"
    text += " and no labels."
    if synthetic and not kind:
        text += f" The cohorts {_and(run.synthetic)} are synthetic."
    if contract:
        text += " " + _preparation(contract)
    k = config.views.downsample
    if k > 1:
        text += f" For training, volumes were average-pooled by a factor of {k}."
    return text


def _preparation(contract: dict[str, Any]) -> str:
    fit = {
        "resize": "scaled isotropically where the head did not fit, and padded to",
        "pad": "padded or cropped to",
        "none": "kept in",
    }.get(str(contract.get("fit")), "brought to")
    size, spacing = contract.get("size"), contract.get("spacing")
    scaling = (
        "standardised to zero mean and unit variance"
        if contract.get("scaling") == "zscore"
        else "scaled to [0, 1] between the {} and {} percentiles of the non-zero voxels".format(
            *(contract.get("percentiles") or ("?", "?"))
        )
    )
    stripping = "No skull stripping was applied."
    if contract.get("skull_strip") not in (None, "none"):
        stripping = f"Skulls were stripped with {contract['skull_strip']}."
    return (
        f"Volumes were oriented to RAS, resampled once to {spacing} mm isotropic voxels, {fit} a "
        f"cube of {size}³ voxels, and {scaling}. {stripping}"
    )


def _network(config: PretrainConfig) -> str:
    m, edge = config.model, config.views.global_size
    return (
        "The method follows VolTA-3D [@volta], which carries DiCoM [@dicom] over to volumes. The "
        f"encoder is a 3D vision transformer [@vit] with {m.depth} blocks, width {m.width}, "
        f"{m.heads} heads, MLP width {m.mlp} and patches of {m.patch_size}³ voxels, laid out as "
        f"in MONAI's ViTAutoEnc [@monai], so that its weights also fit UNETR [@unetr]. A view of "
        f"{edge}³ voxels gives {(edge // m.patch_size) ** 3} patch tokens. A learned token attends "
        f"to them in one transformer block ({m.summariser_heads} heads) and serves as the global "
        "summary. Student and teacher share this architecture; the teacher's weights are an "
        "exponential moving average of the student's, and only the student has a decoder, two "
        "transposed convolutions that rebuild the volume. Both the global summary and the patch "
        f"tokens are projected by an MLP (hidden width {m.head_hidden}, output {m.bottleneck}), "
        f"{_bottleneck(config)}L2-normalised, and mapped to {_said(m.prototypes)} prototypes by a "
        "weight-normalised linear layer [@dino]."
    )


def _bottleneck(config: PretrainConfig) -> str:
    if config.objective.bottleneck == "plain":
        return ""
    return (
        "standardised per dimension with running statistics of the teacher (momentum "
        f"{_said(config.objective.bottleneck_momentum)}), "
    )


def _views(config: PretrainConfig) -> str:
    v = config.views
    held, local_held = _held(v.spacing_mm, v.global_scale), ""
    if v.locals:
        local_held = _held(v.spacing_mm and (v.local_spacing_mm or v.spacing_mm), v.local_scale)
    local = (
        f"and {v.locals} local views of {v.local_size}³ voxels {local_held} "
        if v.locals
        else "and no local views "
    )
    shape = "isotropic " if v.isotropic else ""
    return (
        f"From every scan two global views of {v.global_size}³ voxels {held} {local}"
        f"were drawn in each epoch with {shape}scaling, left\N{EN DASH}right flips (probability "
        f"{_said(v.flip)}) and rotations up to {_said(v.rotation)}°, in one resampling; "
        "intensities were changed by gamma, histogram shift or noise, smoothing, Gibbs ringing "
        f"and a bias field [@3dino], at {_said(100 * v.intensity)} % of full strength."
    )


def _held(spacing: tuple[float, float] | None, scale: tuple[float, float] | None) -> str:
    """How much of a head a view holds."""
    if spacing:
        low, high = map(_said, spacing)
        return f"with an edge of {low}\N{EN DASH}{high} mm, at least half of each inside the head,"
    assert scale is not None  # one of the two ways is always set
    low, high = map(_said, scale)
    return f"covering {low}\N{EN DASH}{high} of the volume per axis,"


def _masking(config: PretrainConfig) -> str:
    m = config.masking
    fill = {
        "zeros": "zeros",
        "noise": "Gaussian noise",
        "either": "zeros or Gaussian noise, drawn once per view",
    }[m.fill]
    return (
        "The student's global views were corrupted by group masked model learning [@gmml]: random "
        f"cuboids with edges up to {_said(100 * m.max_edge)} % of the view were added until they "
        f"covered {_said(100 * m.ratio)} % of the voxels, which were replaced by {fill}."
    )


def _objective(config: PretrainConfig) -> str:
    o = config.objective
    start, end = o.teacher_temperature
    if start == end or not o.teacher_temperature_epochs:
        teacher = f"{_said(end)}"
    else:
        epochs = o.teacher_temperature_epochs
        teacher = f"{_said(start)} rising to {_said(end)} over {epochs} epochs"
    ramp = ""
    if o.cls_start_epoch or o.cls_ramp_epochs:
        ramp = (
            f" The global term was off before epoch {o.cls_start_epoch} and rose to its "
            f"weight over {o.cls_ramp_epochs} epochs."
        )
    terms = [f"{term.methods(o)} (weight {_said(term.weight(o))})" for term in active(o)]
    return (
        f"The loss was the weighted sum of {_and(terms)}. "
        "Teacher outputs were centred with a running mean (momentum "
        f"{_said(o.center_momentum)}) and sharpened with "
        f"temperature {teacher}; the student's temperature was {_said(o.student_temperature)}."
        f"{ramp}"
    )


def _optimisation(run: Run, config: PretrainConfig) -> str:
    o = config.optim
    done = _said(run.last_step)
    of = run.planned_steps
    steps = f"{done} optimiser steps" + (
        f" of {_said(of)} planned" if of and of != run.last_step else ""
    )
    cadence = (
        "after every micro-batch" if o.cadence == "micro_step" else "after every optimiser step"
    )
    clip = (
        f"gradients were clipped to norm {_said(o.clip)} "
        + ("per parameter" if o.clip_by == "parameter" else "over all parameters")
        if o.clip
        else "gradients were not clipped"
    )
    device = run.environment.get("device")
    machine = f" on {'a CPU' if device == 'cpu' else device}" if isinstance(device, str) else ""
    precision = run.environment.get("precision")
    arithmetic = f" in {precision}" if isinstance(precision, str) else ""
    return (
        f"Training ran for {steps} ({config.epochs} epochs configured){machine}{arithmetic} with "
        f"AdamW [@adamw], batch size {config.batch_size} and accumulation over "
        f"{config.accumulate} micro-batches. The learning rate rose linearly to "
        f"{_said(config.lr)} over {_said(o.warmup_epochs)} epochs and fell along a cosine to "
        f"{_said(o.lr_end)}; weight decay went from {_said(o.weight_decay[0])} to "
        f"{_said(o.weight_decay[1])}, the teacher's momentum from {_said(o.momentum[0])} to "
        f"{_said(o.momentum[1])}. Teacher and centres were updated {cadence}; {clip}. The "
        f"prototypes stayed fixed for the first {o.freeze_last_layer_epochs} epoch(s). The random "
        f"seed was {config.seed}."
    )


def _monitoring(run: Run, config: PretrainConfig) -> str:
    watched = config.monitor.scans if run.scans is None else min(config.monitor.scans, run.scans)
    return (
        f"Collapse was watched every {config.monitor.every_epochs} epoch(s) on {watched} scans: "
        "the mutual information between scan and prototype under the teacher, "
        "H(mean p) \N{MINUS SIGN} mean H(p), the effective rank of the global features [@rank], "
        "their mean cosine, and the share of their variance that lies between scans."
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
