"""What a client keeps when it is given no file. Only `backend` knows the algorithms."""
