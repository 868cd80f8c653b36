"""Side by side: the dictionary's methods and the baselines on the same signals, in one table, one plot, one picture."""
