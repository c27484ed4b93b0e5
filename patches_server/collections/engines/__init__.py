"""The databases that keep collections documents, each an `Engine`. Nothing here knows a socket, a
right or who is sent what.
"""
