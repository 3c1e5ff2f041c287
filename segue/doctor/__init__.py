"""Is the data fit to learn from, is the machine up to it, did the models learn? Findings are plain values."""
