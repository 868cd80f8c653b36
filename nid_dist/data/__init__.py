"""Signals Y and where they were measured: reading, splitting, tiling and drawing images."""
