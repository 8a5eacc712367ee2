"""Runs of the study without Jupyter, several side by side on one machine, for as long as there is time.

    python benchmarks/grid.py [--workers 10] [--seconds 450] PROFILE/TASK/ARCHITECTURE/APPROACH ...

A small network leaves a GPU idle between its kernels, which other trainings fill. The runs start in the order given,
each once its parent is finished where that is among them. When the time is over each training ends with its epoch; the
same command goes on from there. The runs are those that notebook 3 makes of the same parameters, in `CHROMOLIB_RUNS`.
"""

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from chromolib import parameters, runs, trainer, training


class OutOfTime(Exception):
    """The time is over; what was saved stays."""


def settings(name):
    """The parameters of notebook 3 for a run, given as PROFILE/TASK/ARCHITECTURE/APPROACH: dict."""
    profile, task, architecture, approach = name.split("/")
    files = parameters.path("architecture", architecture), parameters.path("approach", approach)
    values = parameters.load(*parameters.profile_files(profile), *files) | {"task": task}
    return parameters.defaults("03_training") | parameters.select("03_training", values)


def parent(name):
    """The run that this one begins from, named alike; None for one that begins from none."""
    values = settings(name)
    if values["start"] != "parent":
        return None
    profile, task, approach = parameters.parent(values)
    return "/".join([profile, task, values["architecture"], approach])


def train(name, end):
    """Train all folds of a run, or stop at the end of an epoch once the time is over."""
    training.STATE_SECONDS = 10  # less is lost where the time is short

    def report(_):
        if time.monotonic() > end:
            raise OutOfTime

    return runs.record(trainer.ensure(settings(name), report=report))["seconds"]


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=str.strip)
    parser.add_argument("--workers", type=int, default=10, help="processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which nothing is begun")
    given = parser.parse_args(words)
    begun = time.monotonic()
    work, waiting, running, undone = partial(train, end=begun + given.seconds), [*given.runs], {}, 0
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            unfinished = {*waiting, *running.values()}
            ready = [name for name in waiting if parent(name) not in unfinished]
            for name in ready[: given.workers - len(running)]:
                waiting.remove(name)
                running[pool.submit(work, name)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    sys.exit(f"{name}: a process was ended from outside, and all with it; the same command goes on")
                undone += error is not None
                said = f"{type(error).__name__} {error}" if error else f"{future.result():.0f} s of training"
                print(f"{time.monotonic() - begun:5.0f} s: {name}: {said}", flush=True)
            if time.monotonic() > begun + given.seconds:
                undone += len(waiting)
                waiting.clear()
    if undone:
        sys.exit(f"{undone} not finished: the same command goes on")


if __name__ == "__main__":
    main()
