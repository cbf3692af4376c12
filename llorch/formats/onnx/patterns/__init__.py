"""What Llama is made of, found among the activations of a graph: one pattern a module."""
