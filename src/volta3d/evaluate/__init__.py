"""What features and predictions are worth: cross-validated probes, with intervals."""
