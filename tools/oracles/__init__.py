"""Values of other implementations on tiny models, stored for tests that run without them."""
