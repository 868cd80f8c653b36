"""A trained video as background, transients and foreground."""
