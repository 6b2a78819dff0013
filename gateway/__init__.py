"""The enterprise's side: verify, decide, log, seal, send, check, answer."""
