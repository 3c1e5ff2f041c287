"""Telling recorded sound from sound that was made."""
