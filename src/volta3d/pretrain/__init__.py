"""Self-supervised pretraining: the step, the loop, checkpoints, monitors and alarms."""

from volta3d.callable_room import make_callable

make_callable(__name__)
