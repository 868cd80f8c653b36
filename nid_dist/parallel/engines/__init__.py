"""What drives an optimiser step: plain PyTorch, DeepSpeed, fairscale."""
