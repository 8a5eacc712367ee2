"""The one error type of the study."""


class StudyError(Exception):
    """Something outside the code is wrong: a file, a parameter, a missing run.

    The message names the file or parameter, says what is wrong with it, and what to do.
    """
