"""What evidence is: bounded parsers from bytes to facts. Nothing here is trusted yet."""
