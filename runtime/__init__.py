"""The enclave's side: identity, sealed API, engine, model."""
