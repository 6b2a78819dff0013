"""Weights, tokenizer and chat template from files."""
