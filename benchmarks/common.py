"""What the benchmarks share: turns, the machine, the table, the figure.

Ours and its peers take turns in one run, so that what disturbs the machine disturbs all of them; every figure is the
median of three turns. A ratio above 1 means that ours is ahead. All use the cores that OMP_NUM_THREADS leaves them.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator

from chromolib import datasets, figures, files, paths, provenance
from chromolib.errors import StudyError

FOLDER = paths.ROOT / "runs" / "reference" / "benchmarks"
BUSY = 0.5  # [ours]
LOAD = os.getloadavg()[0]  # processes at work before the first turn: on an idle machine next to none


def arguments(words):
    """The options that all scripts have, and the number of turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one turn: shows that it runs, not how fast")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the table and the figure")
    options = parser.parse_args(words)
    if options.quick and options.output == FOLDER:
        parser.error("--quick measures nothing: give another --output than the folder of committed results")
    options.turns = 1 if options.quick else 3
    return options


def in_turn(turns, *contestants, warm_up=True):
    """Call functions one after the other, so many times: a list of values for each. The first time does not count."""
    values = [[contestant() for contestant in contestants] for _ in range(turns + warm_up)]
    return [list(column) for column in zip(*values[warm_up:], strict=True)]


def seconds(function, *arguments):
    """A function without arguments that calls this one and returns the seconds it took."""

    def timed():
        started = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - started

    return timed


def apart(function, *arguments):
    """The result of a module's function, called in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


_work = None


@contextmanager
def in_process(setup, *arguments):
    """A function without arguments that calls, in a process of its own, the one that `setup(*arguments)` returns there.

    What one side asks of its process, its memory allocator for instance, is then no gift to the other.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _set_up, (setup, *arguments)) as pool:
        yield lambda: pool.submit(_call).result()


def _set_up(setup, *arguments):
    global _work
    _work = setup(*arguments)


def _call():
    return _work()


def peak_memory():
    """The most memory this process has held, in GB. (`getrusage` of a young process may tell its parent's.)"""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9


def row(what, unit, ours, peer=None, against="limit", target=None, **facts):
    """A row of a table: medians of the turns, and their ratio (of rates; of seconds the other way round).

    target: the ratio wanted; or, without a peer, the limit in the unit: then the ratio is that of limit to ours.
    """
    middle, other = statistics.median(ours), target if peer is None else statistics.median(peer)
    ratio = middle / other if unit.endswith("/s") else other / middle if other else None
    spread = {"ours_lowest": min(ours), "ours_highest": max(ours), "turns": len(ours)}
    wanted = 1 if peer is None and target else target
    first = {"ratio": ratio, "target": wanted, "what": what, "against": against}
    return first | {"ours": middle, "other": other, "unit": unit, **spread, **facts}


def chromosomes(name, size):
    """The data set, or, where it is not at hand, drawings: Dataset."""
    try:
        return datasets.load(name, size=size)
    except StudyError as error:
        print(f"drawings instead of {name}: {str(error).split('. ')[0]}")
        return datasets.load("synthetic_q", size=size)


def publish(name, rows, output, draw):
    """Print the rows; write them, with machine and versions, to `<name>.csv`, and the figure that `draw` makes."""
    table, facts = pd.DataFrame(rows), provenance.describe()
    if LOAD > BUSY:
        print(f"the machine was not idle: {LOAD:.1f} processes at work before the first turn")
    shown = table.drop(columns=["ours_lowest", "ours_highest", "turns"]).dropna(axis=1, how="all")
    print(f"\n{name}\n{shown.to_string(index=False, float_format='{:.4g}'.format, na_rep='')}", flush=True)
    machine = (
        {"load_before": round(LOAD, 2)} | facts["hardware"] | {"commit": facts["project"]["commit"]} | facts["versions"]
    )
    with files.replacing(output / f"{name}.csv") as path:
        table.assign(measured=provenance.now(), **machine).to_csv(path, index=False, float_format="%.6g")
    figure = draw(table)
    figure.tight_layout()
    figure.savefig(output / f"{name}.png", dpi=110)
    plt.close(figure)


def ratios(table):
    """The ratio of each row as a dot, on a logarithmic axis from 1, and its target as a mark."""
    figure, axis = plt.subplots(figsize=(9, 1.4 + 0.4 * len(table)))
    places, targets = np.arange(len(table))[::-1], table.target.astype(float)
    colours = [figures.PALETTE[7 if against == "limit" else 0] for against in table.against]
    axis.hlines(places, 1, table.ratio, color=colours, linewidth=3)
    axis.scatter(table.ratio, places, color=colours, s=50, zorder=3)
    axis.scatter(targets, places, marker="|", s=300, color="black", zorder=4, label="target")
    for place, (ratio, ours, other, unit) in zip(places, table[["ratio", "ours", "other", "unit"]].values, strict=True):
        words = f"{_brief(ratio)}×: {_brief(ours)}, {_brief(other)} {unit}"
        axis.text(1.03, place, words, va="center", transform=axis.get_yaxis_transform())
    axis.axvline(1, color="grey", linewidth=0.8, zorder=0)
    axis.set(yticks=places, yticklabels=table.what + ", " + table.against, xlabel="ours is so many times as good")
    axis.set(xscale="log", xlim=(min(0.8, 0.8 * table.ratio.min()), 1.5 * np.nanmax([table.ratio, targets])))
    axis.set_ylim(-0.6, len(table) - 0.4)
    axis.set_title("ratio: ours, the other", loc="right", fontsize=10)
    _plain_numbers(axis.xaxis)
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return figure


def growth(table):
    """Against size, on logarithmic axes: a panel for each `what`, with the slope p of ours ~ size^p."""
    kinds = list(table.what.unique())
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.2 * len(kinds), 3.8), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        part = table[table.what == kind]
        size, first = part["size"], part.iloc[0]
        slope = np.polyfit(np.log(size), np.log(part.ours), 1)[0]
        axis.loglog(size, part.ours, "o-", color=figures.PALETTE[0], label=f"ours, slope {slope:.2f}")
        if part.other.notna().any():
            axis.loglog(size, part.other, "s--", color=figures.PALETTE[1], label=first.against)
        axis.set(xlabel=first.of, ylabel=first.unit, title=kind)
        _plain_numbers(axis.yaxis)
        axis.set_xticks(size, [f"{number:,}" for number in size], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.legend(frameon=False)
    return figure


def _plain_numbers(axis):
    """Ticks 1, 2, 5, 10, 20 ... of a logarithmic axis, or of a long one 1, 10, 100 ..., written as such."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_locator(NullLocator())


def _brief(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
