"""The page that `patches-server` serves to try it, and the documents it starts with.

Uses the server as any application would.
"""
