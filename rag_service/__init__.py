"""Youju (有据): answers from your own documents, every sentence with a checked citation."""

__version__ = "0.4.0"
