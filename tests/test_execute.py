"""Running a notebook: parameters are checked before a kernel starts, and failures are told."""

import json

import nbformat
import papermill
import pytest

from chromolib import execute, parameters, paths
from chromolib.errors import StudyError

CELL = "seed = 0  # a number\nword = 'a'  # a text"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A notebook of two cells in a folder of its own."""
    parameters._cells.cache_clear()
    for module in (paths, parameters):
        monkeypatch.setattr(module, "NOTEBOOKS", tmp_path)

    def write(tag="parameters", work="print(seed, word)"):
        cells = [
            nbformat.v4.new_code_cell(CELL, metadata={"tags": [tag]}),
            nbformat.v4.new_code_cell(work),
        ]
        metadata = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "99_small.ipynb")
        return tmp_path / "out.ipynb"

    yield write
    parameters._cells.cache_clear()


def texts(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return "".join("".join(out.get("text", "")) for cell in cells if "outputs" in cell for out in cell["outputs"])


def test_values_reach_the_notebook(small, tmp_path):
    output = small()
    (tmp_path / "values.yaml").write_text("seed: 3")
    execute.main(["99_small", str(output), "-f", str(tmp_path / "values.yaml"), "-p", "word", "b"])
    assert texts(output) == "3 b\n"


@pytest.mark.fault(28)
@pytest.mark.parametrize("wrong", [["-p", "sede", "1"], ["-p", "seed", "one"], ["-f", "absent.yaml"]])
def test_a_wrong_parameter_stops_before_a_kernel_starts(small, wrong, monkeypatch):
    output = small()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(SystemExit, match="99_small: parameter"):
        execute.main(["99_small", str(output), *wrong])
    assert not output.exists()


@pytest.mark.fault(28)
def test_a_notebook_without_the_tag_is_refused(small):
    output = small(tag="parameter")
    with pytest.raises(StudyError, match="one cell tagged `parameters`, has 0"):
        execute.run("99_small", output, {"seed": 1})


def test_a_failing_cell_fails_the_run_and_keeps_the_notebook(small):
    output = small(work="print('so far')\n1 / 0")
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        execute.main(["99_small", str(output)])
    assert texts(output).startswith("so far")


def test_a_kernel_that_does_not_come_up_is_started_again(small, monkeypatch):
    started = []

    def fails_once(*_, **__):
        started.append(1)
        if len(started) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", fails_once)
    execute.run("99_small", small(), {})
    assert len(started) == 2


def test_papermill_itself_warns_only_but_the_notebook_stops(tmp_path):
    with pytest.raises(papermill.exceptions.PapermillExecutionError, match="did you mean 'image_size'"):
        papermill.execute_notebook(
            paths.NOTEBOOKS / "03_training.ipynb", tmp_path / "out.ipynb", {"image_sise": 64}, progress_bar=False
        )
