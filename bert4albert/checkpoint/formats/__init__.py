"""Readers and writers of checkpoint files, one module a format."""
