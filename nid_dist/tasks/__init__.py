"""(Y, R, L, P): a task is one choice of them, with its metrics and pictures."""
