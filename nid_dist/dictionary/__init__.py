"""b_theta_j: the experts, coordinate networks R^m -> R^d."""
