"""Who calls the gateway: API keys; and the gateway's own signing key."""
