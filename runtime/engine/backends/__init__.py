"""Engines of others behind the ``Engine`` protocol, each imported only where it was chosen."""
