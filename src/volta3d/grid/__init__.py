"""Arms, folds, seeds and fractions as one grid of jobs in one run folder, whatever the task."""
