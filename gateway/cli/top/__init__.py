"""``sealgate runtime top``: a runtime's metrics as a terminal view."""
