"""A graph run for a few token ids: constants become numbers, activations stay expressions of the weights."""
