"""A committed notebook that is run again without a change leaves no difference."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from chromolib import notebooks, parameters, paths, report
from chromolib.errors import StudyError

NAMES = [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]


def executed(seconds, address, styled):
    """A notebook as two runs of it would leave it: they differ in what chance and clock give."""
    stream = new_output("stream", name="stdout", text=f"fold 0  epoch 1/5  loss 3.098  {seconds} s, 9 s left\nfold 1\n")
    html = f'<style>#T_{styled}_row0 {{}}</style><table id="T_{styled}">'
    table = new_output("execute_result", data={"text/plain": f"<Styler at 0x{address}>", "text/html": html})
    remark = new_output("stream", name="stderr", text="[IPKernelApp] WARNING | frozen modules\n")
    timed = new_output("stream", name="stdout", text=f"{seconds} s of training\n")
    cells = [
        new_code_cell("train()", outputs=[stream, remark], metadata={"execution": {"iopub.execute_input": seconds}}),
        new_code_cell("table", outputs=[table]),
        new_code_cell("print(seconds)", outputs=[timed], metadata={"tags": ["timed"]}),
        new_markdown_cell("12.3 s is text."),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell{number}"
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python", "version": f"3.11.{address}"}})


def test_two_runs_are_stripped_to_the_same():
    first, second = executed("12.3", "7fd600360e90", "1a2b3"), executed("4.5", "7f0000000000", "99fff")
    assert nbformat.writes(first) != nbformat.writes(second)
    notebooks.strip(first, first)
    notebooks.strip(second, first)
    assert nbformat.writes(first) == nbformat.writes(second)
    train, table, timed, text = first.cells
    assert train.outputs[0].text == "fold 0  epoch 1/5  loss 3.098\nfold 1\n" and len(train.outputs) == 1
    assert table.outputs[0].data["text/html"].count("T_00001") == 2
    assert timed.outputs[0].text == "12.3 s of training\n" and text.source == "12.3 s is text."


def test_a_timed_cell_whose_code_changed_says_what_it_found():
    before, after = executed("12.3", "0", "00000"), executed("4.5", "0", "00000")
    after.cells[2].source = "print(round(seconds))"
    notebooks.strip(after, before)
    assert after.cells[2].outputs[0].text.startswith("4.5")


def test_a_notebook_is_run_again_in_place_and_a_failing_one_is_left(tmp_path, monkeypatch):
    for module in (paths, parameters):
        monkeypatch.setattr(module, "NOTEBOOKS", tmp_path)
    file = tmp_path / "01_small.ipynb"
    code = "print(1 + 1, flush=True)\nprint(object()) if False else None"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), file)
    notebooks.main(["01_small"])
    once = file.read_bytes()
    assert b'"2\\n"' in once and once.endswith(b"}\n") and b"\r" not in once
    notebooks.main(["01_small.ipynb"])
    assert file.read_bytes() == once
    file.write_text(file.read_text().replace("1 + 1", "1 / 0"))
    broken = file.read_bytes()
    with pytest.raises(StudyError, match="ZeroDivisionError"):
        notebooks.main(["01_small"])
    assert file.read_bytes() == broken


def test_an_unknown_notebook_is_named():
    with pytest.raises(StudyError, match=r"'01_nothing'.*there are 01_data_exploration"):
        notebooks.main(["01_nothing"])


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebooks_are_written_as_they_would_be_again(name):
    """Sorted keys, one space, no timestamp: else the next run would change every line."""
    text = (paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert nbformat.writes(notebook) + "\n" == text
    report.few_colours(notebook)
    assert nbformat.writes(notebook) + "\n" == text
    assert not [cell for cell in notebook.cells if {"execution", "papermill"} & cell.metadata.keys()]
