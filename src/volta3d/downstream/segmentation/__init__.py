"""``segment``: arms compared on structures, and models that outline them in a scan's own space."""
