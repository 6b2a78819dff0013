"""An answer through an attested runtime, then liars refused."""
