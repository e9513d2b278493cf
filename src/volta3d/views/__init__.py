"""Views of a scan: geometry, intensity, masking (METHOD sections 2 and 3), on tensors."""
