"""Genuine evidence held against what we accept, part by part (``attest.appraise`` calls them in order)."""
