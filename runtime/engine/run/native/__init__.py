"""The decoder on CPUs by Sealgate's own kernels: a whole step in one call."""
