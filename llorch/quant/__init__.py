"""What a quantised block is: the layout table, the tensor view and readable NumPy codecs."""
