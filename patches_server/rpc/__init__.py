"""JSON-RPC: frames, checks of what comes in, and the table of remote methods."""
