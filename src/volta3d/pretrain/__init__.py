"""Self-supervised pretraining: the step, the loop, checkpoints, monitors and alarms."""
