"""Decide: labels and Cedar policies. No I/O, nothing of the other packages."""
