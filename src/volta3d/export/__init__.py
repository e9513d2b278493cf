"""Networks for other programs: ONNX files and MONAI bundles."""

from volta3d.export.export import Exported, export

__all__ = ["Exported", "export"]
