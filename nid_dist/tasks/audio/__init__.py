"""Sounds: a signal along one axis, in windows of samples."""
