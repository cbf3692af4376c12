"""How the embedded model `demo` was made: stories, vocabulary, training."""
