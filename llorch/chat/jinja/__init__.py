"""Templates from model files, run in a sandbox that counts all they do; the only place that knows Jinja."""
