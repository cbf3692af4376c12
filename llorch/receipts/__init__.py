"""Receipts of answers: what was computed, in a form that anybody can compute again and compare."""
