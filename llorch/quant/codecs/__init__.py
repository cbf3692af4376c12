"""What the bytes of each type mean, one type a file: readable NumPy, the slow twins of the kernels."""
