"""From a commit to its subscribers: who is told, in what order, how much may wait.

Never waits for a peer. Knows no document server.
"""
