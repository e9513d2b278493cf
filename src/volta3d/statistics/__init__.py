"""Folds, scores, linear models, neighbours, intervals and tests: each once, for all rooms."""
