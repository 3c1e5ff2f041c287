"""The command line: verbs only. What a verb does lives elsewhere; here are its options and how it speaks."""

from segue.cli.main import app, main, train_app

__all__ = ["app", "main", "train_app"]
