"""The sealgate command."""
