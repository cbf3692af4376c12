"""Llama as the paper tells it: config, weights, state and one forward pass."""
