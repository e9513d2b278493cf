"""What features and predictions are worth: cross-validated probes, with intervals."""

from volta3d.callable_room import make_callable

make_callable(__name__)
