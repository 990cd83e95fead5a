"""The two ways in which a run can go wrong, each with its exit status."""


class BadInput(ValueError):
    """What the user gave cannot be used: wrong usage or bad data (exit status 2).

    The message says what was given, what was expected, and what to do.
    """


class RunFailed(RuntimeError):
    """A run that was properly asked for could not be carried out (exit status 1)."""
