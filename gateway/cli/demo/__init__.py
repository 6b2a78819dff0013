"""An answer through an attested runtime, then six liars refused."""
