"""Whether this process computes what the model says, found out before it takes a request."""
