"""Products of integers on tiles of 16 weight rows: re-tiling, and the micro-kernels of each CPU path."""
