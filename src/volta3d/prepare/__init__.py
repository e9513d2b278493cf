"""Raw scans in, a cohort out: layouts, checks, one resampling, intensities, quality control."""

from volta3d.callable_room import make_callable
from volta3d.prepare.finish import PrepareResult
from volta3d.prepare.run import prepare

__all__ = ["PrepareResult", "prepare"]

make_callable(__name__)
