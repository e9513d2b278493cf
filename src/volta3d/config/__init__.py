"""Configuration: typed, inert, complete. YAML in, YAML out; an unknown key is an error.

What a person sets every day stands at the top of each command's configuration. Where a value comes
from ([S] stated in the paper, [I] inferred, [C] our choice) is written beside it in the presets.
"""

from volta3d.config.base import Config, build, parse_yaml, read_yaml
from volta3d.config.classify import (
    AugmentConfig,
    ClassifyConfig,
    classify_presets,
    load_classify,
)
from volta3d.config.prepare import PrepareConfig
from volta3d.config.pretrain import (
    MaskingConfig,
    ModelConfig,
    MonitorConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    ViewsConfig,
    load_own,
    load_pretrain,
    presets,
)
from volta3d.config.segment import (
    CropsConfig,
    SegmentConfig,
    TuneConfig,
    UnetConfig,
    UnetrConfig,
    load_segment,
    segment_presets,
)
from volta3d.config.study import StudyConfig, load_study, studies

__all__ = [
    "AugmentConfig",
    "ClassifyConfig",
    "Config",
    "CropsConfig",
    "MaskingConfig",
    "ModelConfig",
    "MonitorConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PrepareConfig",
    "PretrainConfig",
    "SegmentConfig",
    "StudyConfig",
    "TuneConfig",
    "UnetConfig",
    "UnetrConfig",
    "ViewsConfig",
    "build",
    "classify_presets",
    "load_classify",
    "load_own",
    "load_pretrain",
    "load_segment",
    "load_study",
    "parse_yaml",
    "presets",
    "read_yaml",
    "segment_presets",
    "studies",
]
