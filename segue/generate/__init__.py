"""From a prompt's tokens to a continuation's: sampling, one stage, all three."""
