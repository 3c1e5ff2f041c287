"""Pairs of sounds one of which a good language model finds likelier: sets of them, read, and made."""
