"""JSON-RPC 2.0 as @dabble/patches 0.28.1 speaks it: frames, and the checks of what comes in.

Pure. Knows no session and no document server.
"""
