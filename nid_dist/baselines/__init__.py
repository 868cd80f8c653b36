"""What f_i is compared with: other representations of the same signals at the same size."""
