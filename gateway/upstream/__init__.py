"""SealedTransport: an httpx transport that verifies, seals and opens."""
