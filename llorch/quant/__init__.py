"""Quantised blocks: the layout table, the tensor view and readable NumPy codecs."""
