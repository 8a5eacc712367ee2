"""The one error type of the study, and how it ends a command."""

import sys
from contextlib import contextmanager

_LISTED = 5  # faults that a message lists; all are counted


class StudyError(Exception):
    """Something outside the code is wrong: a file, a parameter, a missing run.

    The message names the file or parameter, says what is wrong with it, and what to do.
    """


def refuse_all(where, faults, total, ending):
    """StudyError where there are faults (texts), among `total` of what `ending` names: all counted, five listed."""
    if faults:
        listed = "; ".join(fault.rstrip(".") for fault in faults[:_LISTED])
        raise StudyError(f"{where}: {listed}. In all {len(faults):,} such among {total:,} {ending}")


@contextmanager
def ends_command(word=""):
    """A decorator of a `main`: StudyError ends it with its message, after `word`, and status 1, Ctrl-C with 130.

    So does what the system refuses, such as to write where the disk is full: it names its file, and needs no traceback.
    """
    if hasattr(sys.stdout, "reconfigure"):  # in the code page of Windows a log has not every letter of a name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)  # as shells say it of SIGINT
    except BrokenPipeError:  # whoever read, such as head, has enough
        raise
    except (StudyError, OSError) as error:
        sys.exit(f"{word}: {error}" if word else str(error))
