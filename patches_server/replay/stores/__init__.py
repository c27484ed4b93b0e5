"""Where a server keeps the logs of replay documents.

A store saves and loads, and decides nothing.
"""
