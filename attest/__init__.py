"""Establish trust and seal: evidence, verification, statement, appraisal, channel."""
