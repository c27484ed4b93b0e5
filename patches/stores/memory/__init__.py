"""What a client keeps when it is given no file."""
