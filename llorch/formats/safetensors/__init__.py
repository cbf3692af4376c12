"""safetensors, Hugging Face's format of weights: a JSON header, then the bytes of the tensors."""
