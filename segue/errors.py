"""The one exception that means "the caller can mend this": its message is a line fit to be shown.

The command line prints it and exits with code 2; everything else that is raised is our own fault.
"""


class SegueError(ValueError):
    """Bad input, a bad option or a bad artifact. The message names what, which value and what to do."""
