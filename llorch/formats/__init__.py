"""Bytes on disk to metadata and tensors, under GGUF's names whatever the format."""
