"""Anthropic's API, as far as it is about texts and tools.

Source: https://docs.anthropic.com/en/api/messages and .../messages-streaming, tried with the `anthropic` client.
"""
