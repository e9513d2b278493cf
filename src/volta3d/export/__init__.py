"""Networks for other programs: ONNX files and MONAI bundles."""

from volta3d.callable_room import make_callable
from volta3d.export.export import Exported, export

__all__ = ["Exported", "export"]

make_callable(__name__)
