"""The paper's whole grid as one resumable command."""

from volta3d.callable_room import make_callable
from volta3d.study.run import StudyResult, study

__all__ = ["StudyResult", "study"]

make_callable(__name__)
