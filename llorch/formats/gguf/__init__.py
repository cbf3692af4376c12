"""GGUF, llama.cpp's model format, read through a memory map; every number in a file is checked before use."""
