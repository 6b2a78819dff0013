"""A software TEE vendor: real formats, real signatures, its own root."""
