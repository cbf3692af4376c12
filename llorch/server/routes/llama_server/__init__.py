"""llama-server's paths: its fields, answers and errors, and vLLM's spelling where both share a path."""
