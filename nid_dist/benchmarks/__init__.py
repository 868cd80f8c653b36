"""Measurements of speed, memory and quality; `nid-benchmark NAME` runs one of them."""
