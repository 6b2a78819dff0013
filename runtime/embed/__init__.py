"""Embeddings: text in, one vector of unit length out."""
