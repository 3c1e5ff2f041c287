"""Listening tests: people say whether sound goes on as recorded or as made, or which of two systems does it better."""
