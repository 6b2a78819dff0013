"""Runs scheduled rows through a model: packed weights, paged keys and values, batched sampling."""
