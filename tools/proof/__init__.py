"""Tools for stored proof bundles."""
