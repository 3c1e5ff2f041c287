"""Measuring a bundle as the papers do: suites that turn parts and a folder of sound into figures, and their reports."""
