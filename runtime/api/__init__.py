"""Outer API: evidence and sealed requests. Inner API: OpenAI-shaped."""
