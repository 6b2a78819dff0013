"""Make evidence inside the TEE."""
