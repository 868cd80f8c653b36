"""alpha_i, beta_i: the codes, predicted by gates or found by solvers."""
