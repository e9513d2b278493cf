"""Label maps scored in millimetres, in the scan's own space."""
