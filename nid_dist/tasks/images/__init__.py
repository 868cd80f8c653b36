"""Images: whole or in patches, their report, inpainting, baselines and comparisons."""
