"""The graph: its plan for each profile, and the whole study at smoke size."""

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from chromolib import parameters, paths, trainer

SNAKEMAKE = [sys.executable, "-m", "snakemake"]
PROFILES = paths.ROOT / "workflow" / "profiles"


def snakemake(folder, *words, profile, snakefile=paths.ROOT / "Snakefile", **variables):
    """Run Snakemake with results and bookkeeping in `folder`; its output, after an exit status of 0."""
    where = ["--snakefile", str(snakefile), "--directory", str(folder), "--cores", "2"]
    command = [*SNAKEMAKE, *where, *words, "--config", f"profile={profile}"]
    environment = os.environ | {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_CACHE": str(folder / "cache")}
    environment |= variables
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=environment, cwd=Path(snakefile).parent, **output)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def planned(plan):
    """How often each rule would run: dict."""
    rows = (line.split() for line in plan.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


@pytest.mark.parametrize(("profile", "runs"), [("smoke", 8), ("demo", 6), ("mini", 8), ("paper", 66)])
def test_the_plan_has_every_run_and_seven_notebooks_and_the_report(tmp_path, profile, runs):
    plan = snakemake(tmp_path, "--dry-run", profile=profile)
    counts = planned(plan)
    assert counts["train"] == runs
    assert counts["total"] == runs + 8


def test_the_plan_has_a_third_staining_where_the_profile_names_one(tmp_path):
    copy = tmp_path / "copy"  # the profile is a file of the project
    for name in ("chromolib", "parameters", "workflow", "notebooks"):
        shutil.copytree(paths.ROOT / name, copy / name)
    shutil.copy(paths.ROOT / "Snakefile", copy)
    (copy / "parameters" / "profile" / "mine.yaml").write_text(
        "profile: mine\nc_band: photographs\ntasks: [c_band]\narchitectures: [resnet34]\napproaches: [two_step]\n"
        "folds: [0]\nimage_size: 32\n"
    )
    command = [*SNAKEMAKE, "--dry-run", "--printshellcmds", "--cores", "1", "--config", "profile=mine"]
    done = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, text=True, capture_output=True)
    assert "/c_band/resnet34/two_step/run.json" in done.stdout, done.stdout + done.stderr
    assert "input: " in done.stdout and "/q_band/resnet34/imagenet/run.json" in done.stdout
    assert re.search("execute 05_grad_cam .* -p task c_band -p cam_architecture resnet34", done.stdout)


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_the_plan_is_the_same_everywhere(tmp_path, where):
    plan = snakemake(tmp_path, "--profile", str(PROFILES / where), "--dry-run", profile="paper")
    assert plan.count("\nrule train:") == 66
    assert plan.count(", gpu=1") == (68 if where == "slurm" else 0)


def test_each_architecture_says_what_it_needs():
    with open(paths.ROOT / "workflow" / "needs.csv") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    named = [row.pop("architecture") for row in rows]
    assert len(set(named)) == len(named) and {"other"} <= set(named) <= {*parameters.names("architecture"), "other"}
    assert all(int(row["gpu_slots"]) in (1, 2, 4) and int(row["minutes_per_fold"]) > 0 for row in rows)


def test_one_gpu_is_filled_and_never_overfilled(tmp_path, monkeypatch):
    """Four small jobs wait until all four run, so they must be let in together; a big one must be alone."""
    (tmp_path / "Snakefile").write_text(
        """
rule all:
    input: expand("small{n}", n=range(4)), expand("big{n}", n=range(2))

rule small:
    output: touch("small{n}")
    resources: gpu_slots=1
    shell: "echo 1 >> log; timeout 100 sh -c 'until [ $(grep -c ^1 log) = 4 ]; do sleep 0.1; done'; echo -1 >> log"

rule big:
    output: touch("big{n}")
    resources: gpu_slots=4
    shell: "echo 4 >> log; echo -4 >> log"
"""
    )
    monkeypatch.setenv("CHROMOLIB_DEVICES", "1")
    words = ["--profile", str(PROFILES / "local"), "--cores", "8"]
    snakemake(tmp_path, *words, profile="smoke", snakefile=tmp_path / "Snakefile")
    taken = list(itertools.accumulate(map(int, (tmp_path / "log").read_text().split())))
    assert max(taken) == 4
    assert taken[-1] == 0


def test_two_step_waits_for_its_parent(tmp_path):
    target = tmp_path / "runs" / "smoke" / "q_band" / "efficientnet_lite0" / "two_step" / "run.json"
    plan = snakemake(tmp_path, "--dry-run", str(target), profile="smoke")
    jobs = re.findall(r"^ *output: .*runs/smoke/(\S+)", plan, re.MULTILINE)
    assert jobs == ["g_band/efficientnet_lite0/imagenet/run.json", "q_band/efficientnet_lite0/two_step/run.json"]


def test_a_home_that_cannot_be_written_is_none_of_its_business(tmp_path):
    plan = snakemake(
        tmp_path, "--profile", str(PROFILES / "local"), "--dry-run", profile="smoke", HOME="/dev/null/home"
    )
    assert planned(plan)["train"] == 8


def test_an_unknown_profile_is_named(tmp_path):
    with pytest.raises(AssertionError, match=r"profile 'large': no such file.*there are .*curve") as refusal:
        snakemake(tmp_path, "--dry-run", profile="large")
    assert 'File "' not in str(refusal.value)  # no traceback


def test_a_parent_of_another_profile_that_is_not_there_is_named_with_the_remedy(tmp_path):
    words = r"karyotype: .*make study PROFILE=evening_patient_seed1 ONLY=trainings"
    with pytest.raises(AssertionError, match=words) as no:
        snakemake(tmp_path, "--dry-run", profile="karyotype")
    assert 'File "' not in str(no.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project, in which the smoke profile is done: by jobs that only touch their output."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("chromolib", "notebooks", "parameters", "workflow", "runs/reference/coverage"):
        shutil.copytree(paths.ROOT / name, folder / name)
    text = (paths.ROOT / "Snakefile").read_text()
    (folder / "Snakefile").write_text(text.replace("{sys.executable:q} -m", "touch {output:q} # -m"))
    replan(folder)
    return folder


def replan(folder, *words):
    return snakemake(folder, *words, profile="smoke", snakefile=folder / "Snakefile", PYTHONPATH=str(folder))


@contextlib.contextmanager
def changed(path, old, new):
    """A file in which words are replaced, for a while; one that is not there yet holds the new words alone."""
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before.replace(old, new, 1) if before else new)
    try:
        yield
    finally:
        path.write_text(before) if before else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("notebooks/03_training.ipynb", "weight_decay = ", "weight_decay = 1", {"train", "statistics"}),
        ("notebooks/04_statistics.ipynb", "bootstrap_draws = ", "bootstrap_draws = 1", {"statistics"}),
        ("parameters/claims.yaml", "holds: [", "holds: [1", {"statistics"}),
        ("parameters/sources.yaml", "n_images: 5474", "n_images: 5473", {"statistics"}),
        ("parameters/architectures.yaml", "cam_layer: layer4", "cam_layer: layer3", {"statistics"}),
        ("parameters/approach/scratch.yaml", "start: random", "start: imagenet", {"train", "statistics"}),
        ("runs/reference/coverage/coverage.csv", "0", "1", {"statistics"}),
        ("chromolib/metrics.py", "import", "import math as mathematics\nimport", {"statistics"}),
        ("runs/smoke_cell/q_band/efficientnet_lite0/imagenet/run.json", "", "{}", {"validity"}),
    ],
)
def test_the_graph_sees_whatever_changes_a_result(finished, file, old, new, again):
    with changed(finished / file, old, new):
        rules = planned(replan(finished, "--dry-run")).keys()
    assert again <= rules
    assert ("train" in rules) == ("train" in again)


@pytest.mark.slow
def test_the_graph_overlooks_what_changes_no_result(finished):
    with contextlib.ExitStack() as changes:
        for file, old, new in (
            ("notebooks/03_training.ipynb", "weight_decay = ", "weight_decay =  "),
            ("parameters/claims.yaml", "#", "# more"),
            ("parameters/sources.yaml", "#", "# more"),
            ("chromolib/metrics.py", "import", "# a comment\nimport"),
        ):
            changes.enter_context(changed(finished / file, old, new))
        assert not planned(replan(finished, "--dry-run"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("architectures: [resnet43]", "architecture 'resnet43': no such file.*there are convnext_tiny"),
        ("approaches: [imagnet]", "approach 'imagnet': no such file.*there are imagenet"),
        ("tasks: [r_band]", "task 'r_band': names no data set; there are q_band, g_band"),
        ("tasks: q_band", "parameter 'tasks': 'q_band' is not of the type"),
        ("image_sise: 1", "parameter 'image_sise'.*did you mean 'image_size'"),
        ("g_band: bioimlap", "unknown data set 'bioimlap'; there are .*bioimlab"),
        ("profile: smoke", "its file says `profile: smoke`; write `profile: wrong`"),
        ("architectures: [resnet34]\nfolds: [0]", "names no approaches, no image_size; .*own.yaml"),
    ],
)
def test_a_wrong_word_in_a_profile_is_named_in_a_line(finished, line, message):
    own_name = "" if line.startswith("profile") else "profile: wrong\n"
    (finished / "parameters" / "profile" / "wrong.yaml").write_text(f"{own_name}{line}\n")
    options = {"snakefile": finished / "Snakefile", "PYTHONPATH": str(finished)}
    with pytest.raises(AssertionError, match=f"wrong: {message}") as refusal:
        snakemake(finished, "--dry-run", profile="wrong", **options)
    assert 'File "' not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_failure_takes_neither_its_finished_run_nor_the_others(finished, where):
    """Such as a figure that cannot be written, after run.json."""
    runs = sorted(finished.glob("runs/smoke/*/*/*/run.json"))
    for run in runs:
        run.unlink()
    first = "touch {output:q} # -m chromolib.execute 03_training"
    fails = f"{first[:16]}; [ {{wildcards.approach}} != two_step ] # {first[19:]}"
    words = ["--profile", str(PROFILES / where), "--executor", "local", "--retries", "0", "trainings"]
    with changed(finished / "Snakefile", first, fails), pytest.raises(AssertionError, match="Error in rule train"):
        replan(finished, *words)
    assert len(runs) == 8 and all(run.exists() for run in runs)


@pytest.mark.slow
def test_a_finished_run_outlives_a_job_that_fails(finished):
    """As notebook 3 does where it is refused, in the place of a run with other settings."""
    graph, (run, *_) = finished / "Snakefile", finished.glob("runs/smoke/*/*/scratch/run.json")
    run.write_text("finished")
    graph.write_text(graph.read_text().replace("touch {output:q}", "false"))
    with pytest.raises(AssertionError, match="Error in rule train"):
        replan(finished, str(run))
    assert run.read_text() == "finished"


@pytest.fixture(scope="module")
def study(tmp_path_factory, elsewhere):
    """The whole study at smoke size, without make and what only POSIX or Linux has; the folder of its results."""
    folder = tmp_path_factory.mktemp("study")
    where = {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_CACHE": str(folder / "cache")}
    said = elsewhere("-m", "chromolib", "study", "smoke", "--directory", str(folder), **where)
    assert f"The report: {folder / 'runs' / 'smoke' / 'index.html'}" in said
    return folder / "runs" / "smoke"


@pytest.mark.slow
def test_the_whole_study_runs(study):
    assert len(list(study.glob("*/*/*/run.json"))) == 8
    page = (study / "index.html").read_text()
    links = {link for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith(("data:", "http"))}
    tables = {f"tables/{file.name}" for file in (study / "tables").glob("*.csv") if len(pd.read_csv(file))}
    executed = {f"{notebook.stem}.html" for notebook in study.glob("0*.ipynb")}
    assert len(executed) == 7 and tables | executed <= links
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
    trainer.delete(run.parent)
    snakemake(folder, str(run), profile="smoke")
    assert run.is_file()
    assert others == {path: path.stat().st_mtime_ns for path in others}


def test_no_notebook_holds_more_than_a_megabyte():
    for notebook in Path(paths.NOTEBOOKS).glob("*.ipynb"):
        assert notebook.stat().st_size < 1e6, notebook.name
