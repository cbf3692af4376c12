"""Chats: messages become prompts, grammars bind answers, calls of tools are found in them."""
