"""Text becomes token ids, and back."""
