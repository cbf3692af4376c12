"""Model files become metadata and tensors, under GGUF names whatever their format."""
