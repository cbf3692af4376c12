"""Looking inside a running model: value taps, timelines and metrics."""
