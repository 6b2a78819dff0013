"""Secure key release: under which attestation a key store hands a key to an enclave."""
