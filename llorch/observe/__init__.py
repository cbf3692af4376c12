"""Looking inside a running program: taps of named intermediate values, distributions, whose work it is."""
