"""The sync of one document: a pure plan, pure transitions, and the worker that runs them.

Knows one document and the link to the server; other documents are `patches.sync.documents`'.
"""
