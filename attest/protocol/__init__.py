"""What travels inside the channel, validated alike on both sides."""
