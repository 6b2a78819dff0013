"""Which runtimes hold a verdict now, and until when."""
