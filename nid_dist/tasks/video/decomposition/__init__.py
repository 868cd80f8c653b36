"""A trained video taken apart: background, transients, foreground."""
