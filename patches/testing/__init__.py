"""What helps to test code that uses this toolkit."""
