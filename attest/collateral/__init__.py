"""Pinned vendor roots and the certificates and lists a verification needs."""
