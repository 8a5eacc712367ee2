"""The lesson: its notebooks come from one source, its checks know right from wrong, and its slides are ten."""

import importlib
import json
import re
import sys

import matplotlib
import nbformat
import numpy as np
import pytest
import yaml
from IPython.display import Markdown
from nbconvert import SlidesExporter

from chromolib import paths, statistics

LESSON = paths.ROOT / "lesson"
sys.path.insert(0, str(LESSON))

make = importlib.import_module("make")
matplotlib.use("Agg")


def committed(name):
    return nbformat.read(LESSON / f"{name}.ipynb", as_version=4)


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def run(notebook, display=print):
    """Run the code cells of a notebook in this process: yields (number of the exercise, AssertionError or None)."""
    names = {"display": display}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            flaw = None
            try:
                exec(compile(cell.source, cell.id, "exec"), names)
            except AssertionError as error:
                flaw = str(error)
            if cell.source.startswith("checks."):
                yield flaw


@pytest.mark.parametrize(("name", "solved"), [("exercises", False), ("solutions", True)])
def test_it_is_made_from_the_source(name, solved):
    assert sources(committed(name)) == sources(make.made(solved)), "run python lesson/make.py"


def test_a_solution_leaves_the_task_and_the_names():
    solution = "# YOUR CODE: a function\n# of x\ndef f(x, y=1):\n    return x\n\n\n_a = 2\nb, c = 3, f(_a)"
    assert make.asked(solution) == "# YOUR CODE: a function\n# of x\ndef f(x, y=1): ...\n\n\nb = ...\nc = ..."
    assert make.asked("# YOUR CODE\nd = {'a': 1}") == "# YOUR CODE\nd = ..."


def test_the_solutions_pass_every_check(capsys):
    """And what they print is what the committed notebook shows."""
    assert list(run(make.made(solved=True))) == [None] * 10
    shown = [
        output["text"]
        for cell in committed("solutions").cells
        for output in cell.get("outputs", [])
        if "text" in output
    ]
    right = re.findall(r"Exercise \d+: right\. .*\n", "".join(shown))
    assert len(right) == 10
    assert right == re.findall(r"Exercise \d+: right\. .*\n", capsys.readouterr().out), "run python lesson/make.py"


def test_the_students_notebook_asks_for_every_answer():
    flaws = list(run(make.made(solved=False)))
    assert [flaw.split(":")[0] for flaw in flaws] == [f"Exercise {number}" for number in range(1, 11)]
    for flaw in flaws:
        assert "YOUR CODE" in flaw or "returns nothing yet" in flaw


MISTAKES = yaml.safe_load((LESSON / "mistakes.yaml").read_text())


@pytest.fixture(scope="module")
def prepared():
    """Of each exercise the names before its solution, and the sources of solution and check: {number: (names, ...)}."""
    found, names, number = {}, {"display": print}, 0
    for cell in make.made(solved=True).cells:
        if cell.source.startswith("## Exercise"):
            number += 1
        elif cell.source.startswith("checks."):
            found[number] += (cell.source,)
        elif "solution" in cell.metadata.get("tags", []):
            found[number] = (dict(names), cell.source)  # later cells leave these names as they are
        elif cell.cell_type == "code":
            exec(cell.source, names)
    return found


@pytest.mark.parametrize("number", MISTAKES)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(prepared, number):
    names, _, check = prepared[number]
    for mistake in MISTAKES[number]:
        own = dict(names)
        exec(mistake["answer"], own)
        with pytest.raises(AssertionError, match=f"^Exercise {number}: .*{mistake['says']}"):
            exec(check, own)


WRONG = {"text": str, "nothing": lambda answer: None, "a list": lambda answer: [answer], "NaN": lambda answer: np.nan}


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("kind", WRONG)
def test_an_answer_of_another_kind_gets_a_sentence(prepared, number, kind):
    """Each answer in turn is made text, nothing, a list or NaN, or a function that returns that."""
    names, solution, check = prepared[number]
    exec(solution, right := dict(names))
    asked = make.asked(solution)
    for name in re.findall(r"^(\w+) = \.\.\.|^def (\w+)", asked, re.M):
        answer = right[name := "".join(name)]
        wrong = [WRONG[kind](answer)]
        if callable(answer):
            wrong.append(lambda *values, answer=answer: WRONG[kind](answer(*values)))
        for other in wrong:
            if other != answer:  # else it is asked for as text
                with pytest.raises(AssertionError, match=f"^Exercise {number}: "):
                    exec(check, right | {name: other})


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (2, "share_y, accuracy = round(share_y, 1), round(accuracy, 1)"),  # as the check prints them
        (6, "low, high = round(low, 1), round(high, 1)"),
        (7, "sentence = sentence.upper()"),
        (8, "share = {name: round(value, 2) for name, value in share.items()}"),
        (9, "before, after = round(before, 1), round(after, 1)"),
    ],
)
def test_a_right_answer_may_be_rounded_or_in_capitals(prepared, number, change):
    names, solution, check = prepared[number]
    exec(f"{solution}\n{change}\n{check}", dict(names))


def test_an_interval_of_the_study_s_own_bootstrap_is_right(prepared):
    """Whatever its seed, and with half as many draws as are asked for."""
    names, _, check = prepared[6]
    pair = names["two_step"], names["imagenet"]
    for seed in range(5):
        interval = statistics.paired_bootstrap(*pair, "accuracy", "patient", n_boot=1000, seed=seed)
        exec(check, names | {"low": 100 * interval.low, "high": 100 * interval.high})


def test_every_exercise_has_a_wrong_answer():
    assert list(MISTAKES) == list(range(1, 11))


def test_the_five_questions_are_the_same_everywhere():
    asked = "on whose cells, by how many trainings, against which control, looking where, and what was thrown away"
    plan = (LESSON / "README.md").read_text(encoding="utf-8")
    for text in (plan, committed("source").cells[-1].source, committed("slides").cells[-1].source):
        assert asked in text


def test_slides_and_exercises_go_forward_together(slides):
    """The plan's slides never go back, and each slide names the exercises that the plan has beside it."""
    named, number = {}, 0
    for cell in slides.cells:
        number += cell.metadata["slideshow"]["slide_type"] == "slide"
        for found in re.findall(r"→ \*Exercises? ([\d, ]+)\*", cell.source):
            named |= {int(exercise): number for exercise in found.split(", ")}
    plan = re.findall(r"^\| \d+ to \d+ \| ([\d, ]+) \| (.*?) \|", (LESSON / "README.md").read_text("utf-8"), re.M)
    order = [[int(slide) for slide in shown.split(", ")] for shown, _ in plan]
    assert order == sorted(order) and order[-1] == [10]
    for shown, (_, what) in zip(order, plan, strict=True):
        for found in re.findall(r"Exercises? ([\d, ]+)", what):
            assert {named[int(exercise)] for exercise in found.rstrip(", ").split(", ")} <= set(shown), what


def test_the_control_s_numbers_are_those_of_the_study_s_answer():
    """What follows exercise 7, in its check and on the next slide, are the numbers of the project's own README."""
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8").replace("−", "-")
    (row,) = re.findall(r"stop instead of as much longer training, two seeds \|(.*)", readme)[:1]
    shown = [
        "".join(str(output) for cell in committed(name).cells for output in cell.get("outputs", []))
        for name in ("solutions", "slides")
    ]
    for gain, ends in re.findall(r"([-+]\d+\.\d) \((.*?)\)", row):
        assert all(re.search(rf"{re.escape(gain)}[^(]*\({ends}", text) for text in shown)


@pytest.fixture(scope="module")
def slides():
    return committed("slides")


def test_the_slides_are_ten(slides):
    """They are converted without a network."""
    page, _ = SlidesExporter(exclude_input=True).from_notebook_node(slides)
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in slides.cells]
    assert kinds.count("slide") == page.count("<section><section") == 10
    assert "display(" not in page and "data:image/png" in page


def test_the_slides_show_the_numbers_of_the_tables(slides):
    """What they say is computed again here."""
    said = []
    names = {"display": lambda shown, metadata=None: said.append(shown)}
    for cell in slides.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    data = [output["data"] for cell in slides.cells for output in cell.get("outputs", [])]
    said = [shown.data for shown in said if isinstance(shown, Markdown)]
    assert len(said) == 6
    assert said == [part["text/markdown"] for part in data if "text/markdown" in part], "run python lesson/make.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["solutions", "slides"])
def test_it_runs_where_only_its_extra_is_installed(elsewhere, name):
    from test_reading import ABSENT

    lacks = [package for package in ABSENT if package not in ("sklearn", "jupyterlab")]
    words = ["--to", "notebook", "--execute", "--stdout", str(LESSON / f"{name}.ipynb")]
    cells = json.loads(elsewhere("-m", "nbconvert", *words, without=lacks))["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 3


def test_every_link_of_the_plan_leads_somewhere():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (LESSON / "README.md").read_text(encoding="utf-8")):
        assert (LESSON / target).exists(), target
