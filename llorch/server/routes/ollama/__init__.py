"""Ollama's API, as far as one loaded model can serve it: chats, texts, vectors, and what there is.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md, tried with the `ollama` client.
"""
