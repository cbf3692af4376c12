"""What activations become before they meet weights, one form a file (`buffers.ActivationForm`)."""
