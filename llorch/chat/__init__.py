"""Chats: templates that make prompts of messages, grammars that bind answers, tool calls found in answers."""
