"""Parts of llama-server's paths."""
