"""The write-ahead decision log."""
