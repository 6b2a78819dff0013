"""Many adapters of one base model in one batch: read, kept, placed and applied."""
