"""A run's folder and its checkpoints: written complete or not at all, checked when read."""
