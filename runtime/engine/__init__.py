"""Token generation behind the Engine protocol."""
