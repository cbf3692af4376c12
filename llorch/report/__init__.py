"""Joins when an operation ran with what it computed: tensors held against a reference, and one page of it all."""
