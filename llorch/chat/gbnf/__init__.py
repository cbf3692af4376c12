"""GBNF, llama.cpp's form of grammars: read, and put into words of llguidance."""
