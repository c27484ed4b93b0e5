"""From a commit to its subscribers: who is notified, in what order, and how much may wait.

Never waits for a peer. Knows no document server.
"""
