"""Ray for tests and measurements: an environment of its own, because it is large."""
