"""Conversations become prompts: messages, and the template that writes them as one text."""
