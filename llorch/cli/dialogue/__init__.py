"""The parts of `llorch chat`."""
