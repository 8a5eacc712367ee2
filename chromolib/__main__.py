"""The study by one command, on every system: python -m chromolib WORD. The Makefile's targets call it.

Whoever adds a word adds a row: to MODULES where a module of the library has a main(), else to PROGRAMS.
"""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys

from chromolib import parameters, paths
from chromolib.errors import StudyError

GRAPH = ["snakemake", "--profile", "workflow/profiles/local", "--quiet", "rules"]
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "1200"]

MODULES = {  # word: module of the library, words before those that were typed, what it does
    "predict": ("predict", [], "RUN FOLDER: classes, karyograms and karyotypes of your own images; no diagnosis"),
    "draw": ("synthetic", [], "FOLDER: draw cells to try predict demonstration on"),
    "plan": ("plan", [], "PROFILE: hours and disk of a study, before it is run"),
    "verify": ("runs", ["verify"], "PROFILE: check every file of a profile's runs against its SHA-256"),
    "compare": ("compare", [], "PROFILE: a finished profile of yours against the committed one, cell by cell"),
    "publish": ("report", ["publish"], "PROFILE: copy a profile's results to runs/reference, as they are committed"),
    "new-data": ("datasets", ["new"], "FOLDER: make a data set of a folder of your own images"),
    "get": ("datasets", ["get"], "NAME: download a data set of the study"),
    "tensorboard": ("tensorboard", [], "PROFILE: learning curves for TensorBoard, which is installed besides"),
    "notebooks": ("notebooks", [], "NAME ...: run committed notebooks again, in place, without what chance gives"),
    "check": ("check", [], "what this machine has for the study, and what it lacks with the remedy"),
}
PROGRAMS = {  # word: programs that this Python runs in the project's folder, one after the other, what it does
    "lab": ([["jupyterlab", "--notebook-dir=notebooks"]], "the notebooks, in JupyterLab"),
    "book": (
        [["sphinx", "-W", "--keep-going", "-c", "book", "-d", "book/_build/doctrees", ".", "book/_build/html"]],
        "the notebooks, claims, how-to pages and library as a website, in book/_build/html",
    ),
    "test": (
        [
            ["ruff", "check", "."],
            ["ruff", "format", "--check", "."],
            ["pytest", "--numprocesses", "auto", "--dist", "loadfile", *NBVAL, "tests", "notebooks"],
        ],
        "everything that the project checks about itself",
    ),
}
STUDIES = {
    "demo": "the whole study on drawn chromosomes, offline, in minutes",
    "study": "PROFILE: the study of a profile; more words are Snakemake's, such as trainings or --dry-run",
}


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
    environment = os.environ | {"PYTHONUTF8": "1"}  # on Windows a log in its old code page has no room for a minus sign
    process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=paths.ROOT, env=environment)
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal's Ctrl-C reaches the program too, which ends by itself
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if process.wait():
        sys.exit(process.returncode)


def usage():
    """The words, a line each."""
    about = STUDIES | {word: row[-1] for word, row in (PROGRAMS | MODULES).items()}
    return "python -m chromolib WORD\n" + "\n".join(f"  {word:11} {words}" for word, words in about.items())


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
    except StudyError as error:
        sys.exit(f"{word}: {error}")


if __name__ == "__main__":
    main()
