"""(evidence, collateral, now) -> verified evidence, or Refused. Pure functions."""
