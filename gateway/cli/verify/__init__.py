"""``sealgate verify``: bundles and raw evidence, judged and explained."""
