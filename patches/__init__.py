"""Patches: JSON documents that several people, services and agents edit at once."""
