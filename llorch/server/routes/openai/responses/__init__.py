"""OpenAI's Responses API: a body becomes a chat, and the answer to the chat becomes output items."""
