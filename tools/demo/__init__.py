"""Programs that made the embedded model `demo`: stories, vocabulary, training."""
