"""Directories of Hugging Face models as GGUF would have them: keys, names, RoPE's order of rows, vocabularies."""
