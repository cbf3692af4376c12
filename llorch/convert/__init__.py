"""Model files made from others: encoders that search, mixtures of types, and the writer of GGUF files."""
