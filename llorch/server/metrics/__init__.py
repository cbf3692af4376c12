"""What `/metrics` shows: numbers of the engine and of HTTP in the formats of Prometheus."""
