"""Adapters behind OpenAI's audio API: one server, whose batches hold the windows of all requests."""
