"""Vectors of texts: what Python's `embed` and the server's routes share."""
