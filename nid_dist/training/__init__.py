"""min over theta, alpha, beta: the steps that minimise, with their checkpoints and what they show."""
