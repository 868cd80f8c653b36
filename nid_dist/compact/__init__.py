"""Quantised codes in as few bytes as they need: an arithmetic coder, its adaptive models, and the file."""
