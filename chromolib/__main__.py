"""The study by one command, on every system: python -m chromolib WORD (words.yaml). The Makefile's targets call it."""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys

from chromolib import parameters, paths
from chromolib.errors import StudyError, ends_command

GRAPH = ["snakemake", "--profile", "workflow/profiles/local", "--quiet", "rules"]
MODULES, PROGRAMS, STUDIES = parameters.load(paths.ROOT / "chromolib" / "words.yaml").values()


def study(profile="demo", *options):
    """Run the graph of a profile, and say where its report lies; options are Snakemake's."""
    parameters.path("profile", profile)  # refuses a name that is none
    run(GRAPH[0], *options, *GRAPH[1:], "--config", f"profile={profile}")
    page = paths.runs() / profile / "index.html"
    if page.exists():
        print(f"The report: {page}")


def run(module, *words):
    """Run a program of this environment in the project's folder; where it fails this process exits as it did."""
    if importlib.util.find_spec(module) is None:
        raise StudyError(f"the package {module} is not installed: {paths.INSTALL.format('test')}")
    # On Windows a log in its old code page has no room for a minus sign.
    environment = paths.environment() | {"PYTHONUTF8": "1"}
    process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=paths.ROOT, env=environment)
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal's Ctrl-C reaches the program too, which ends by itself
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if process.wait():
        sys.exit(process.returncode)


def usage():
    """The words, a line each."""
    about = STUDIES | {word: row[-1] for word, row in (PROGRAMS | MODULES).items()}
    return "python -m chromolib WORD\n" + "\n".join(f"  {word:11} {words}" for word, words in about.items())


@ends_command()
def main(arguments=None):
    """Do what the first word says, with the others."""
    word, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if word in MODULES:
            module, first, _ = MODULES[word]
            importlib.import_module(f"chromolib.{module}").main([*first, *rest])
        elif word in PROGRAMS:
            *before, last = PROGRAMS[word][0]
            for program in before:
                run(*program)
            run(*last, *rest)
        elif word in STUDIES:
            study(*(["demo"] if word == "demo" else []), *rest)
        elif word in ("--help", "-h", "help"):
            print(usage())
        else:
            sys.exit(f"{word!r} is no word of the study; there are {', '.join([*STUDIES, *PROGRAMS, *MODULES])}")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read, such as head, has enough; Python's own flush at the end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        sys.exit(f"{word}: the package {error.name} is not installed: {paths.INSTALL.format('test')}")
    except (StudyError, OSError) as error:  # what the system refuses names its file, and needs no traceback either
        sys.exit(f"{word}: {error}")


if __name__ == "__main__":
    main()
