"""Video: robust PCA of a clip, its decomposition, metrics, baselines and comparison."""
