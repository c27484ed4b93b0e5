"""The algorithms that decide what a document becomes when several edit it."""
