"""What is stored and sent: changes, records, ids, JSON values, their encoding and their checks.

Pure leaves: no I/O, no clock, no asyncio; nothing here knows a document, an algorithm or a store.
"""
