"""Measurements of speed, memory and quality; `launch/benchmark.py NAME` runs one of them."""
