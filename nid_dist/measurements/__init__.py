"""R_i: the measurement operators, from a function to what was measured of it."""
