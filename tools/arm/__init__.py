"""Kernels for ARM on machines that are none: their assembly, and whole programs under emulation."""
