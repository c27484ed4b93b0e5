"""The sync of one document: a pure plan, pure transitions, and the worker that runs them."""
