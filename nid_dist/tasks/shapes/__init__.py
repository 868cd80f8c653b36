"""Shapes: meshes and signed distances, surfaces from sparse points, baselines and comparison."""
