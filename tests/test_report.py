"""The report's page, what it answers, and what is published of a profile."""

import base64
import errno
import io
import json
import os
import re
import shutil
import signal

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_runs import predictions

from chromolib import files, paths, report, runs
from chromolib.errors import StudyError

RECORD = {
    "parameters": {},
    "parent": None,
    "files": {},
    "data": {"name": "synthetic_q", "n": 10},
    "hardware": {"processor": "P", "device": "cpu"},
    "versions": {"torch": "2.9"},
    "seconds": 90.0,
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with one finished run, a table, and things that must not be published."""
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
    run = runs.folder("small", "q_band", "resnet34", "scratch")
    (run / "resume").mkdir(parents=True)
    for name, text in {
        "run.json": json.dumps(RECORD),
        "folds.csv": "fold\n0\n",
        "fold0.safetensors": "w",
        "training.ipynb": nbformat.writes(nbformat.v4.new_notebook()),
        ".lock": "",
        "resume/settings.json": "{}",
    }.items():
        (run / name).write_text(text)
    report.save_table(pd.DataFrame({"name <b>": ["<script>"], "value_%": [0.123456]}), "small", "table9")
    return tmp_path / "runs" / "small"


def gains(*rows, **more):
    """A table as of `tables.gains`: rows (task, baseline, against, gain, low, high)."""
    names = ["task", "baseline", "against", "pooled_gain", "pooled_low", "pooled_high"]
    return pd.DataFrame(rows, columns=names).assign(**({"architecture": "net", "seeds": 1} | more))


def said(folder):
    """The words of the answer, in one line."""
    page = report.write(folder.name).read_text()
    return " ".join(page.split('id="answer"')[1].split("</section>")[0].split())


def test_the_page_shows_tables_and_says_what_was_run(results):
    page = report.write("small").read_text()
    assert "1 finished run, training time 1.5 minutes in all" in page and "Versions: torch 2.9" in page
    assert "<td>synthetic_q</td><td>10</td>" in page and "<td>P</td><td>cpu</td>" in page
    assert "These images are drawings" in page
    assert "<td>&lt;script&gt;</td><td>0.1235</td>" in page and "name <b>" not in page
    assert "q_band/resnet34/scratch/training.html" in page and (results / "tables" / "table9.tex").exists()
    assert "q_band / resnet34 / scratch" in page and "predictions.parquet: missing" in page.replace("\n", " ")


def test_a_table_longer_than_a_page_is_no_latex(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    file = tmp_path / "small" / "tables" / "calls.tex"
    for rows, written in ((60, True), (61, False)):  # the second takes the place of the first
        report.save_table(pd.DataFrame({"cell": range(rows)}), "small", "calls")
        assert file.exists() == written and len(pd.read_csv(file.with_suffix(".csv"))) == rows


@pytest.mark.fault(26)
def test_a_table_that_does_not_fit_on_the_disk_stays_whole_in_both_its_files(results, full_disk):
    before = {file: file.read_text() for file in results.glob("tables/*")}
    assert {file.suffix for file in before} == {".csv", ".tex"}
    fits_as_csv = pd.DataFrame({"a": [10**11] * 60})  # 782 bytes; as LaTeX 1,028 and more
    with pytest.raises(StudyError, match=r"table9\.tex: cannot be written.*what was there before is kept"):
        report.save_table(fits_as_csv, "small", "table9")
    assert {file: file.read_text() for file in results.glob("tables/*")} == before


def write_a_table_until_killed(folder):
    paths.runs, os.replace = lambda: folder, lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    report.save_table(pd.DataFrame({"a": [1]}), "small", "gains")


@pytest.mark.fault(5)
def test_what_a_kill_left_of_a_table_is_neither_shown_nor_published(results, killed_in):
    killed_in(write_a_table_until_killed, results.parent)
    assert list(results.glob("tables/.part.*"))
    target = report.publish("small")
    assert not list(target.rglob(".part*"))
    for page in (report.write("small"), target / "index.html"):
        assert ".part.gains" not in page.read_text()


def test_an_empty_profile_says_so_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    (tmp_path / "none").mkdir()
    assert "No finished training run, so there is no answer yet" in said(tmp_path / "none")
    with pytest.raises(StudyError, match=r"profile .smal.: nothing of it .* make study"):
        report.write("smal")
    assert not (tmp_path / "smal").exists()


Q, G = ("q_band", "imagenet", "two_step"), ("g_band", "imagenet", "two_step")
CONTROLS = [("q_band", "imagenet_double", "two_step"), ("g_band", "imagenet_double", "two_step")]
UP, OPEN, DOWN = (2.04, 1.04, 3.04), (0.5, -0.5, 1.5), (-2.0, -3.0, -1.0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(*Q, *UP), (*G, *UP)], "<strong>It helps</strong>; whether the other staining or the longer training"),
        ([(*Q, *UP), (*G, *OPEN)], "<strong>In part</strong>: it helps here, and elsewhere shows no clear"),
        (
            [(*Q, *UP), (*G, *OPEN), (*CONTROLS[0], *DOWN), (*CONTROLS[1], *DOWN)],
            "no clear difference; longer training on the target helps more throughout.",
        ),
        ([(*Q, *UP), (*G, *DOWN)], "<strong>In part</strong>: it helps here and harms there"),
        ([(*Q, *OPEN), (*G, *OPEN)], "<strong>Not shown</strong>"),
        ([(*Q, *DOWN), (*G, *DOWN)], "<strong>No</strong>: it harms"),
        ([(*Q, *UP), (*CONTROLS[0], *UP)], "<strong>Yes</strong>, and not only because training was longer"),
        ([(*Q, *UP), (*CONTROLS[0], *OPEN)], "that it helps more than longer training is not shown"),
        ([(*Q, *UP), (*CONTROLS[0], *DOWN)], "longer training on the target helps more"),
        (
            [(*Q, *UP), (*G, *UP), (*CONTROLS[0], *UP), (*CONTROLS[1], *OPEN)],
            "that it helps more than longer training is shown in part",
        ),
        ([("q_band", "scratch", "imagenet", *UP)], "this profile says nothing: no network was trained with it"),
    ],
)
def test_the_answer_follows_the_intervals(results, rows, words):
    report.save_table(gains(*rows), "small", "gains")
    assert words in said(results)


def test_the_answer_gives_the_numbers_and_what_they_are_about(results):
    report.save_table(gains((*Q, *UP), (*G, -0.24, -1.5, 1.0)), "small", "gains")
    text = said(results)
    assert "on Q-band +2.0 points of Macro-F1 (95 % interval 1.0 to 3.0), a gain; on G-band −0.2 points" in text
    assert "(95 % interval −1.5 to 1.0), no clear difference." in text
    assert "was not run: part of a gain may be the longer training" in text and "<em>these networks</em>" in text
    assert "partial" not in text
    report.save_table(gains((*Q, *UP), ("g_band", "scratch", "intermediate", *DOWN)), "small", "gains")
    assert "<code>scratch</code>: on G-band −2.0 points" in said(results)
    report.save_table(gains((*Q, *UP), seeds=3, grid="partial"), "small", "gains")
    assert "about the approaches, from 3 seeds" in said(results) and "<strong>partial</strong>" in said(results)
    report.save_table(gains((*Q, *UP), (*G, *UP)).assign(seeds=[3, 2]), "small", "gains")
    assert "about the approaches, from 2 or 3 seeds" in said(results)
    report.save_table(gains((*Q, *UP), (*G, *UP)).assign(seeds=[3, 1]), "small", "gains")
    assert "those of one seed are about <em>these networks</em>" in said(results)


def test_a_verdict_is_about_the_interval_before_it_is_rounded(results):
    report.save_table(gains((*Q, 0.4, 0.018, 0.8), (*G, 0.4, -0.018, 0.8)), "small", "gains")
    text = said(results)
    assert "(95 % interval 0.0 to 0.8), a gain; on G-band" in text
    assert "(95 % interval −0.0 to 0.8), no clear difference" in text


def test_holm_has_the_last_word_and_other_tables_may_hold_the_control(results):
    report.save_table(gains((*Q, *UP), pooled_p_holm=0.051), "small", "gains")
    assert "<strong>Not shown</strong>" in said(results)
    assert "no clear difference after Holm’s correction" in said(results)
    report.save_table(gains((*Q, *UP)), "small", "gains")
    report.save_table(gains((*CONTROLS[0], *OPEN)), "small", "second_step")
    assert "Beside the matched control" in said(results) and "on Q-band +0.5 points" in said(results)
    report.save_table(gains((*Q, *UP), seeds=2), "small", "gains")
    assert "those beside the matched control are about <em>these networks</em>" in said(results)


def test_a_control_that_was_only_asked_for_was_not_run(results):
    """Table 4 tells of all approaches that a profile names, table 2 of those that have runs."""
    report.save_table(gains((*Q, *UP)), "small", "gains")
    report.save_table(pd.DataFrame({"approach": ["imagenet", "imagenet_double"]}), "small", "table4_approaches")
    assert "was not run: part of a gain may be the longer training" in said(results)
    trained = {"task": "q_band", "architecture": "resnet34", "approach": "imagenet_double", "macro_f1_mean": 12.34}
    report.save_table(pd.DataFrame([trained]), "small", "table2_performance")
    assert "was trained, but no table sets" in said(results)


def test_a_profile_of_one_approach_shows_what_it_has_and_no_more(results):
    """No empty table, no list of statements that nothing judges, and no link to a notebook that is not there."""
    report.save_table(gains(), "small", "gains")
    report.save_table(pd.DataFrame({"claim": [1, 2], "statement": "s", "verdict": "not run"}), "small", "claims")
    scores = {"task": "q_band", "architecture": "resnet34", "approach": "scratch", "macro_f1_mean": 12.34}
    report.save_table(pd.DataFrame([scores]), "small", "table2_performance")
    assert "<code>scratch</code>, resnet34 on Q-band, 12.3 %." in said(results)
    page = report.write("small").read_text()
    assert "<h1>How well are these chromosomes read?</h1>" in page  # it was not asked about the stop
    assert 'id="table-gains"' not in page and "<summary>Table 2: performance" in page
    assert "None of the paper’s 2 statements can be judged" in page and 'id="table-claims"' not in page
    assert "04_statistics, which as executed is not part of this folder" in page


def test_a_profile_that_trains_one_approach_alone_is_not_sent_to_notebook_4(results):
    """It compares none; one whose file asks for more approaches still waits for them."""
    page = " ".join(report.write("small").read_text().split())
    assert "This profile trains <code>scratch</code> alone, so no approaches are compared here. Of the stop" in page
    assert "<code>scratch</code> alone: the paper’s statements about the stop are not asked here" in page
    assert "run notebook 4" not in page
    results.rename(results.with_name("demo"))  # whose file names all four
    page = report.write("demo").read_text()
    assert "No answer yet: run notebook 4" in page and "Not judged yet: run notebook 4" in page


def test_many_networks_are_counted(results):
    three = [gains((*Q, *span)).assign(architecture=f"net{number}") for number, span in enumerate((UP, OPEN, DOWN))]
    report.save_table(pd.concat(three), "small", "gains")
    words = "on Q-band of 3 networks 1 with a gain, 1 with a loss, 1 undecided (−2.0 to +2.0 points"
    assert f"3 networks: {words}" in said(results)
    report.save_table(pd.concat(three[:2]), "small", "gains")
    assert "on Q-band <code>net0</code> +2.0 points" in said(results)
    assert "a gain, and <code>net1</code> +0.5 points" in said(results)


def test_what_no_notebook_makes_stands_last(results):
    report.save_table(gains((*Q, *UP)), "small", "gains")
    page = report.write("small").read_text()
    assert page.index("<h3>04 statistics</h3>") < page.index("<h3>Other results</h3>") < page.index("Table 9: ")


def test_a_table_of_an_older_version_and_a_broken_one_are_named(results):
    report.save_table(gains((*Q, *UP)).drop(columns=["pooled_low", "against"]), "small", "gains")
    assert "lacks against, pooled_low: run notebook 4" in said(results)
    (results / "tables" / "gains.csv").write_text("task,architecture\nq_band,n")
    with pytest.raises(StudyError, match=r"gains.csv: no table \(cut short\); delete it and run its notebook again"):
        report.write("small")
    (results / "tables" / "gains.csv").write_text("")
    with pytest.raises(SystemExit, match=r"report: .*gains.csv: no table"):
        report.main(["write", "small"])


def test_a_figure_carries_its_caption_and_is_the_same_file_again(results):
    files = []
    for _ in range(2):
        figure, axis = plt.subplots()
        axis.plot([1, 2])
        plt.close(figure)
        assert report.save_figure(figure, "small", "performance", "Higher → better.", 'A "line".') is figure
        files.append([(results / "figures" / f"performance.{kind}").read_bytes() for kind in report.FORMATS])
    assert files[0] == files[1]
    page = report.write("small").read_text()
    assert "Higher → better." in page and 'alt="A &#34;line&#34;."' in page and "04 statistics" in page
    (results / "figures" / "performance.png").write_bytes(files[0][0][:50])
    with pytest.raises(StudyError, match=r"performance.png: no picture"):
        report.write("small")


def test_latex_has_the_table(results):
    text = (results / "tables" / "table9.tex").read_text()
    assert r"value\_\%" in text and "0.1235" in text and r"\begin{tabular}" in text


def executed():
    cell = nbformat.v4.new_code_cell("1", metadata={"papermill": {"duration": 1}, "execution": {"iopub.status": "x"}})
    noise = nbformat.v4.new_output("stream", name="stderr", text="[IPKernelApp] WARNING | x\n")
    cell.outputs = [noise, nbformat.v4.new_output("stream", text="kept\n")]
    links = nbformat.v4.new_markdown_cell("[3](03_training.ipynb), [4](04_statistics.ipynb)")
    return nbformat.v4.new_notebook(cells=[cell, links], metadata={"papermill": {"input_path": "/somewhere"}})


def test_what_is_published(results, monkeypatch):
    """No weights, thumbnails, training notebooks or large files; the study's notebooks without times and paths."""
    for name in ("04_statistics.ipynb", "05_large.ipynb"):
        (results / name).write_text(nbformat.writes(executed()) + " " * (2_000_000 * name.startswith("05")))
    large = executed()
    large.cells[0].source = "#" * 1_000_001
    (results / "05_large.ipynb").write_text(nbformat.writes(large))
    (results / "thumbnails").mkdir()
    (results / "thumbnails" / "q_band_0.jpg").touch()
    (results / "index.html").touch()
    with pytest.warns(UserWarning, match=r"05_large.ipynb: .* not published"):
        target = report.publish("small")
    published = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    run = {f"q_band/resnet34/scratch/{name}" for name in ("run.json", "packed.json", "folds.csv")}
    assert published == run | {"tables/table9.csv", "tables/table9.tex", "04_statistics.ipynb", "index.html"}
    text = (target / "04_statistics.ipynb").read_text()
    assert "kept" in text and not any(word in text for word in ("papermill", 'execution"', "IPKernelApp", "iopub"))
    assert "[3](../../../notebooks/03_training.ipynb), [4](04_statistics.ipynb)" in text  # 3 was not run on it
    page = (target / "index.html").read_text()
    assert 'href="04_statistics.ipynb"' in page and str(results) not in page
    assert not list(target.parent.glob(".part.*"))
    monkeypatch.setenv("CHROMOLIB_RUNS", str(target.parent))
    report.publish("small")  # of the published folder itself
    assert published == {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("select_on", "last"), [(None, True), ("validation", True), ("inner", False), ("last", False)])
def test_packing_rounds_logits_and_leaves_out_those_that_nothing_is_compared_with(results, select_on, last):
    """To half precision, in which runs keep them today; and the published run is whole by its own record."""
    folder = results / "q_band" / "resnet34" / "scratch"
    kept = predictions(20)
    kept["last_logit_0"] = kept["logit_0"].astype(np.float16)
    kept.to_parquet(folder / "predictions.parquet")
    record = json.loads((folder / "run.json").read_text())
    record["files"] = {"predictions.parquet": files.sha256(folder / "predictions.parquet")}
    record["parameters"] |= {"select_on": select_on} if select_on else {}
    (folder / "run.json").write_text(json.dumps(record))
    shutil.rmtree(results / "tables")
    copy = report.publish("small") / "q_band" / "resnet34" / "scratch"
    assert not (copy.parents[2] / "index.html").exists()  # no notebook left anything that a page could show
    rounded = kept.astype({name: np.float16 for name in kept if "logit" in name})
    rounded = rounded.drop(columns=[] if last else "last_logit_0")
    assert rounded["logit_0"].dtype != kept["logit_0"].dtype  # or nothing was tried
    pd.testing.assert_frame_equal(pd.read_parquet(copy / "predictions.parquet"), rounded, check_exact=True)
    assert runs.record(copy)["files"] == {"predictions.parquet": files.sha256(copy / "predictions.parquet")}
    assert json.loads((copy / "run.json").read_text()) == record  # whose digest the runs that begin from it hold


@pytest.mark.parametrize("approach", ["scratch", "imagenet"])
def test_what_chose_the_epoch_is_published_where_notebook_7_has_read_it(results, approach):
    folder = results / "q_band" / "resnet34" / "scratch"
    for name in ("predictions.parquet", "monitor.parquet"):
        predictions(20).to_parquet(folder / name)
    names = ("folds.csv", "predictions.parquet", "monitor.parquet")
    record = RECORD | {"files": {name: files.sha256(folder / name) for name in names}}
    (folder / "run.json").write_text(json.dumps(record))
    row = {"task": ["q_band"], "architecture": ["resnet34"], "approach": [approach]}
    report.save_table(pd.DataFrame(row), "small", "karyotype_summary")
    target = report.publish("small")
    kept = (target / "q_band/resnet34/scratch/monitor.parquet").exists()
    assert kept == (approach == "scratch")
    states = runs.verify(target.parent, "small").set_index("file")["state"]
    assert states["monitor.parquet"] == ("ok" if kept else "not kept") and states["predictions.parquet"] == "ok"


def test_pictures_in_few_colours_keep_their_words_and_look_the_same(results):
    """A figure, and the same picture in a notebook: published, it is as it was saved: Run All changes nothing."""
    figure, axis = plt.subplots()
    axis.plot([0, 1], [0, 1], color="#0072b2")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    report.save_figure(figure, "small", "line", caption="A line – drawn", alt="It rises.")
    plt.close(figure)
    saved, notebook = (results / "figures" / "line.png").read_bytes(), executed()
    shown = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(drawn.getvalue()).decode()})
    notebook.cells[0].outputs.append(shown)
    (results / "04_statistics.ipynb").write_text(nbformat.writes(notebook))
    published = report.publish("small")
    assert (published / "figures" / "line.png").read_bytes() == saved
    outputs = nbformat.read(published / "04_statistics.ipynb", as_version=4).cells[0].outputs
    pictures = [drawn.getvalue(), saved, base64.b64decode(outputs[-1].data["image/png"])]
    assert max(len(png) for png in pictures[1:]) < len(pictures[0])
    words = Image.open(io.BytesIO(saved)).text
    assert words["Title"] == "A line – drawn" and words["Description"] == "It rises."
    one, *others = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int) for png in pictures)
    assert all(np.abs(one - other).max() <= 16 for other in others)  # of 255
    assert report._in_few_colours(saved) == saved


@pytest.mark.parametrize("page", sorted(paths.ROOT.glob("runs/reference/*/index.html")), ids=str)
def test_a_committed_page_is_small_and_its_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    for link in re.findall(r'(?:href|src)="([^"]+)"', text):
        anchor = link.startswith("#") and f'id="{link[1:]}"' in text
        assert anchor or link == "data:," or (page.parent / link).is_file(), link
    gains = page.parent / "tables" / "gains.csv"  # of notebook 4
    compared = gains.exists() and len(pd.read_csv(gains)) > 0
    assert ("gain_by_size.png" in text) == compared  # a figure of no gain says nothing


@pytest.mark.parametrize("words", [[], ["write"], ["wirte", "smoke"], ["write", "smoke", "demo"]])
def test_a_wrong_word_is_answered_with_the_right_ones(words):
    with pytest.raises(SystemExit, match=r"usage: .* write\|publish PROFILE"):
        report.main(words)


@pytest.mark.fault(26)
def test_a_full_disk_is_one_line_and_keeps_what_was_published(results, full_disk, monkeypatch):
    before = paths.ROOT / "runs" / "reference" / "small" / "claims.csv"
    before.parent.mkdir(parents=True)
    before.touch()
    with pytest.raises(SystemExit, match=r"^report: .*index\.html: cannot be written"):
        report.main(["publish", "small"])

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(SystemExit, match=r"^report: .*No space left"):
        report.main(["publish", "small"])
    assert [file.name for file in before.parents[1].rglob("*")] == ["small", "claims.csv"]


@pytest.mark.fault(5)
def publish_until_killed(folder, project):
    """Killed where it has just deleted a folder."""
    paths.runs, paths.ROOT, delete = lambda: folder, project, shutil.rmtree
    shutil.rmtree = lambda *names, **options: (delete(*names), os.kill(os.getpid(), signal.SIGKILL))
    report.publish("small")


@pytest.mark.fault(5)
def test_a_kill_while_publishing_leaves_a_whole_copy(results, killed_in):
    target = report.publish("small")
    killed_in(publish_until_killed, results.parent, paths.ROOT)
    assert (target / "index.html").is_file() and runs.record(target / "q_band" / "resnet34" / "scratch")


def test_a_profile_that_cannot_be_published_does_not_replace_what_was(results):
    kept = paths.ROOT / "runs" / "reference" / "small" / "claims.csv"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (results / "tables" / "table9.csv").write_text("")
    with pytest.raises(SystemExit, match=r"table9.csv: no table"):
        report.main(["publish", "small"])
    shutil.rmtree(results / "q_band")
    with pytest.raises(SystemExit, match="report: profile 'small': no finished run"):
        report.main(["publish", "small"])
    assert kept.exists()
