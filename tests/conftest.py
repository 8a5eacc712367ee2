"""What the tests share: real images where they are at hand, a cache of their own, and the table of the faults."""

import dataclasses
import functools
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# One thread a worker: PyTorch's threads and several workers on the same cores slow each other down many times, and
# the tests that compare bits must have the number of threads of the copy that they kill.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest

from chromolib import datasets, files, parameters, paths, trainer, training

FAULTS = {  # what may go wrong in days of work, each injected by the tests marked with its number
    1: "kernel killed in the middle of an epoch",
    2: "SIGTERM, SIGUSR1",
    3: "runner killed and restarted at once",
    4: "Snakemake killed",
    5: "killed while writing state",
    6: "truncated state",
    7: "flipped bit in weights",
    8: "malicious pickle",
    9: "checkpoint of another architecture, task, fold or data set",
    10: "parent missing, failed or of another profile",
    11: "parent trained on the target's own images",
    12: "archive with .., absolute path, link, device",
    13: "archive bomb",
    14: "download cut short, a web page in its place, wrong digest",
    15: "offline",
    16: "truncated TIFF",
    17: "empty file, text named .bmp",
    18: "forged dimensions",
    19: "16-bit image",
    20: "RGBA, palette, multi-page",
    21: "unknown label, class with fewer images than folds",
    22: "same image in two folds",
    23: "NaN loss",
    24: "out of memory",
    25: "too little shared memory or disk",
    26: "read-only or full runs/",
    27: "two processes on one run folder",
    28: "misspelt or mistyped parameter, missing tag",
    29: "runs/ copied without the engine's bookkeeping",
    30: "statistics on 329 of 330",
}


HIDDEN = """
import errno, os, signal, stat, sys
import psutil  # looks at the real system, once; on Windows it has its own way

sys.modules["fcntl"] = None
for module, name in [(signal, "SIGUSR1"), *((os, name) for name in ("sysconf", "sched_getaffinity", "EX_TEMPFAIL"))]:
    delattr(module, name)
flush = os.fsync

def fsync(handle):
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "a folder cannot be flushed")
    flush(handle)

os.fsync = fsync
"""

LACKING = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest, **more: None if name in {names} else find(name, *rest, **more)
"""


def pytest_addoption(parser):
    parser.addoption("--faults", action="store_true", help="run the tests that inject a fault, and print their table")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """A worker more than cores: some tests wait, for Slurm, a browser or a process that starts."""
    return (yield) + 1


def pytest_collection_modifyitems(config, items):
    for item in items:  # user properties travel with the reports, from xdist's workers too
        numbers = [number for mark in item.iter_markers("fault") for number in mark.args]
        item.user_properties += [("fault", number) for number in sorted(numbers)]
    long = {item.path for item in items if item.path.suffix == ".ipynb" or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)  # so that workers that take a file each end together
    if config.getoption("--faults"):
        others = [item for item in items if not item.user_properties]
        items[:] = [item for item in items if item.user_properties]
        config.hook.pytest_deselected(items=others)


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--faults"):
        return
    outcomes = {}  # (fault, test without its parameters) -> outcomes
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            for name, number in report.user_properties:
                if name == "fault":
                    outcomes.setdefault((number, report.nodeid.split("[")[0]), []).append(outcome)
    terminalreporter.section("faults")
    for number, title in FAULTS.items():
        tests = {test: found for (fault, test), found in outcomes.items() if fault == number}
        terminalreporter.line(f"{number:2}  {title}")
        for test, found in tests.items() or [("no test", [])]:
            counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in dict.fromkeys(found))
            terminalreporter.line(f"      {test}  {counts}")


@pytest.fixture
def killed_in():
    """Call a test module's function in a process of its own, which it must end by killing it."""

    def run(work, *arguments):
        process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL

    return run


@pytest.fixture
def full_disk():
    """No file can grow beyond a thousand bytes. Skipped where the system knows no such limit."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="session")
def faults():
    """Number and title of each fault."""
    return FAULTS


@pytest.fixture(scope="session")
def shared_data():
    """The folder with the real data sets that may lie beside the checkout."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images at ../shared/data ({folder.name} is absent)")
    return folder


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Run a Python with these words, and what it starts too, on another system: its output, after an exit status of 0.

    without: names of packages that it lacks; by default it has all, but nothing that only POSIX or Linux has.
    """

    def run(*words, without=(), **variables):
        folder = tmp_path_factory.mktemp("elsewhere")
        text = LACKING.format(names=sorted(without)) if without else HIDDEN
        (folder / "sitecustomize.py").write_text(text)
        variables["PYTHONPATH"] = os.pathsep.join([str(folder), str(paths.ROOT)])
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=paths.ROOT, env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder, so that a test neither sees nor leaves squared images."""
    monkeypatch.setenv("CHROMOLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


_drawn = functools.cache(datasets.load)  # drawing them takes longer than training on them


@pytest.fixture
def settings(monkeypatch, own_cache):
    """One epoch on two cells drawn at 32 pixels; the network is the smallest of the study, without ImageNet weights."""

    def few(name, root=None, size=256, presentation="square"):
        whole = _drawn(name, root, size, presentation)
        part = np.flatnonzero(np.isin(whole.labels, range(21)))[::3]  # three classes fewer, a third of the rest
        fields = {key: getattr(whole, key)[part] for key in ("images", "labels", "cells", "sizes", "files")}
        fields |= {"stain": whole.stain, "patients": None, "report": ()}
        return datasets.Dataset(name=name, digest=files.sha256(__file__) + name, **fields)

    monkeypatch.setattr(datasets, "load", few)
    defaults = parameters.defaults("03_training")
    short = {"task": "q_band", "image_size": 32, "adam_epochs": 1, "sgd_epochs": 1, "folds": [0, 1], "batch_size": 64}
    return defaults | short | {"approach": "scratch", "start": "random"}


@pytest.fixture
def changed(settings, monkeypatch):
    """Have a function change a data set, in place, whenever it is loaded."""

    def change(name, how):
        load = datasets.load

        def loaded(wanted, *arguments, **options):
            data = load(wanted, *arguments, **options)
            if wanted != name:
                return data
            data = dataclasses.replace(data, images=np.array(data.images), digest=f"changed {name}")
            how(data)
            return data

        monkeypatch.setattr(datasets, "load", loaded)

    return change


@pytest.fixture
def train():
    """Make a whole run with the settings, in the root: its folder."""

    def whole(settings, root):
        run = trainer.Run(settings, root)
        for fold in settings["folds"]:
            run.train(fold)
        run.finish()
        return run.path

    return whole


@pytest.fixture
def every_epoch(monkeypatch):
    """The state of a training is written after every epoch."""
    monkeypatch.setattr(training, "STATE_SECONDS", 0)


@pytest.fixture(scope="module")  # not longer: while it runs, no other test of the process can use asyncio
def chromium():
    """Debian's Chromium without a window, by Playwright. Skipped where it is absent, but where it is asked for."""
    program, needed = shutil.which("chromium"), os.environ.get("CHROMOLIB_REQUIRE_BROWSER") == "1"
    if not program and not needed:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api") if not needed else importlib.import_module("playwright.sync_api")
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync"]
    with api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
        browser = playwright.chromium.launch(executable_path=program or "chromium", args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open a file or an address in a new window; what it asked for and complained of is checked at the test's end.

    visit(place, width=1280, **options of Playwright's new_page) -> Playwright's page. Nothing but the page's own folder
    or server may be asked, and no error may stand in the console.
    """
    pages, complaints = [], []

    def go(place, width=1280, **options):
        address = place.as_uri() if isinstance(place, Path) else place
        page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
        own = "file:" if isinstance(place, Path) else "/".join(address.split("/")[:3])

        def asked(request):
            if not request.url.startswith((own, "data:", "blob:")):
                complaints.append(f"asked for {request.url}")

        page.on("request", asked)
        page.on("requestfailed", lambda request: complaints.append(f"not found: {request.url}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda said: said.type == "error" and complaints.append(f"console: {said.text}"))
        page.goto(address)
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.close()
    assert complaints == []


@pytest.fixture
def violations():
    """What axe-core finds wrong with a page for people who cannot see or use a mouse: a list of words, best empty."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def found(page):
        results = axe.run(page, options={"preload": False}).response["violations"]
        return [f"{rule['id']}: {node['html'][:200]}" for rule in results for node in rule["nodes"]]

    return found
