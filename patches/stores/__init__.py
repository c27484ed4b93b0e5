"""What the stores of a client share. The stores of an algorithm live with it.

Takes no decision about a document.
"""
