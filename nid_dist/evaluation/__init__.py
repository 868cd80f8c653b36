"""How good f_i is: metrics against Y, pictures and the report."""
