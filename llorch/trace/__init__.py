"""Timelines of real steps: recording them, what each operation did, and writing them down for viewers."""
