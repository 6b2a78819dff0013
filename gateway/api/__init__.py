"""The OpenAI-compatible surface that applications see."""
