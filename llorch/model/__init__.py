"""Config, weights, KV cache and forward pass of Llama."""
