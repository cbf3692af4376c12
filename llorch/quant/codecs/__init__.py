"""Readable NumPy codecs, one type a file: the slow twins of the kernels, not made for speed."""
