"""Does llorch compute what llama.cpp computes? Checkpoints, comparisons and proof bundles."""
