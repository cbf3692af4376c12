"""Looking inside a running model: taps of named intermediate values."""
