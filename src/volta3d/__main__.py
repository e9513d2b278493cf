"""``python -m volta3d`` is the same as ``volta3d``."""

from volta3d.cli import main

main()
