"""The graph: its plan for each profile, and the whole study at smoke size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from chromolib import paths

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")]


def snakemake(folder, *words, profile):
    """Run Snakemake with results and bookkeeping in `folder`; its output, after an exit status of 0."""
    command = [*SNAKEMAKE, "--directory", str(folder), "--cores", "2", *words, "--config", f"profile={profile}"]
    environment = os.environ | {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize(("profile", "runs"), [("smoke", 8), ("demo", 8), ("mini", 8), ("paper", 66)])
def test_the_plan_has_every_run_and_four_notebooks_and_the_report(tmp_path, profile, runs):
    plan = snakemake(tmp_path, "--dry-run", profile=profile)
    counts = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert counts["train"] == str(runs)
    assert counts["total"] == str(runs + 5)


def test_two_step_waits_for_its_parent(tmp_path):
    target = tmp_path / "runs" / "smoke" / "q_band" / "efficientnet_lite0" / "two_step" / "run.json"
    plan = snakemake(tmp_path, "--dry-run", str(target), profile="smoke")
    jobs = [line.split("runs/smoke/")[1] for line in plan.splitlines() if line.strip().startswith("output:")]
    assert jobs == ["g_band/efficientnet_lite0/imagenet/run.json", "q_band/efficientnet_lite0/two_step/run.json"]


def test_an_unknown_profile_is_named(tmp_path):
    with pytest.raises(AssertionError, match=r"profile 'large': no such file.*there are demo"):
        snakemake(tmp_path, "--dry-run", profile="large")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The whole study at smoke size; the folder of its results."""
    folder = tmp_path_factory.mktemp("study")
    snakemake(folder, profile="smoke")
    return folder / "runs" / "smoke"


@pytest.mark.slow
def test_the_whole_study_runs(study):
    assert len(list(study.glob("*/*/*/run.json"))) == 8
    page = (study / "index.html").read_text()
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert len(links) == 12 + len(list((study / "tables").glob("*.csv")))
    for link in links:
        assert (study / link).is_file(), link
    assert "drawings" in page


@pytest.mark.slow
def test_the_tables_agree_with_the_runs(study):
    table = pd.read_csv(study / "tables" / "table2_performance.csv")
    row = table.query("task == 'q_band' and approach == 'imagenet'").iloc[0]
    folds = pd.read_csv(study / "q_band" / "efficientnet_lite0" / "imagenet" / "folds.csv")
    assert row["macro_f1_mean"] == pytest.approx(100 * folds["macro_f1"].mean())
    assert row["macro_f1_sd"] == pytest.approx(100 * folds["macro_f1"].std(ddof=1))


@pytest.mark.slow
def test_two_step_names_its_parent(study):
    record = json.loads((study / "g_band" / "efficientnet_lite0" / "two_step" / "run.json").read_text())
    assert record["parent"]["run"] == "smoke/q_band/efficientnet_lite0/imagenet"


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(study):
    folder = study.parent.parent
    assert "Nothing to be done" in snakemake(folder, profile="smoke")
    run = study / "q_band" / "efficientnet_lite0" / "scratch" / "run.json"
    others = {path: path.stat().st_mtime_ns for path in study.glob("*/*/*/run.json") if path != run}
    run.unlink()
    snakemake(folder, str(run), profile="smoke")
    assert run.is_file()
    assert others == {path: path.stat().st_mtime_ns for path in others}


def test_no_notebook_holds_more_than_a_megabyte():
    for notebook in Path(paths.NOTEBOOKS).glob("*.ipynb"):
        assert notebook.stat().st_size < 1e6, notebook.name
