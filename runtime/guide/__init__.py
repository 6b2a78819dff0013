"""Holds answers to a form: a JSON schema, a regular expression, a choice, or calls of functions."""
