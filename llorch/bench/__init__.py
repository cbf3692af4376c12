"""Measuring: tokens per second in llama-bench's tests, memory bandwidth, and the pictures of both."""
