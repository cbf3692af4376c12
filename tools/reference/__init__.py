"""Dumps of what llama.cpp computes, for `llorch validate` and the golden tests."""
