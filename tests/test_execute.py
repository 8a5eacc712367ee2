"""Running a notebook: parameters are checked before a kernel starts, and failures are told."""

import json
import os
import signal
import sys

import nbformat
import papermill
import pytest

from chromolib import execute, parameters, paths, slots
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


def test_a_kernel_takes_the_library_of_the_process_that_starts_it(small, tmp_path, monkeypatch):
    """In a second copy of the project, with the environment of the first, it would take the first's."""
    (tmp_path / "first" / "chromolib").mkdir(parents=True)
    (tmp_path / "first" / "chromolib" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    output = small(work="import chromolib\nprint(chromolib.__file__)")
    execute.run("99_small", output, {})
    assert texts(output) == f"{paths.ROOT / 'chromolib' / '__init__.py'}\n"


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "wrong",
    [
        ["-p", "sede", "1"],
        ["-p", "seed", "one"],
        ["-p", "seed", "[1]"],
        ["-p", "seed", "["],
        ["-p", "word", "{a: 1, a: 2}"],
        ["-p", "word", "no"],
        ["-f", "absent.yaml"],
        ["-f", "."],
    ],
)
def test_a_wrong_parameter_stops_in_one_line_before_a_kernel_starts(small, wrong, monkeypatch):
    output = small()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(SystemExit, match="99_small: parameter") as exit:
        execute.main(["99_small", str(output), *wrong])
    assert "\n" not in exit.value.code
    assert not output.exists()


@pytest.mark.parametrize("name", ["99_small.ipynb", "notebooks/99_small.ipynb"])
def test_a_notebook_may_be_named_as_a_file(small, name):
    output = small()
    execute.main([name, str(output)])
    assert texts(output) == "0 a\n"


@pytest.mark.parametrize("name", ["03_traning", "03_training.txt", "", "."])
def test_an_unknown_notebook_is_said_in_one_line_with_those_there_are(small, name):
    small()
    with pytest.raises(SystemExit, match=r"no notebook|cannot be read.*there are 99_small") as exit:
        execute.main([name, "out.ipynb"])
    assert "\n" not in exit.value.code


def test_the_kernel_is_this_python_whatever_else_is_called_python3(small, tmp_path, monkeypatch):
    foreign = tmp_path / "share" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    output = small(work="import sys\nprint(sys.executable)")
    execute.main(["99_small", str(output)])
    assert texts(output) == f"{sys.executable}\n"


@pytest.mark.fault(28)
def test_a_notebook_without_the_tag_is_refused(small):
    output = small(tag="parameter")
    with pytest.raises(StudyError, match="one cell tagged `parameters`, has 0"):
        execute.run("99_small", output, {"seed": 1})


def test_a_value_is_a_value_and_no_command(small, tmp_path):
    output, word = small(), f"$(touch {tmp_path}/made); `touch {tmp_path}/made` 'x'"
    execute.main(["99_small", str(output), "-p", "word", json.dumps(word)])
    assert texts(output) == f"0 {word}\n"
    assert not (tmp_path / "made").exists()


def test_the_kernel_sees_the_gpu_that_has_free_slots(small, tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "_TEMPORARY", tmp_path)
    monkeypatch.setenv("CHROMOLIB_DEVICES", "2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    output = small(work="import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'])")
    with slots.take(1) as taken:
        execute.main(["99_small", str(output), "--slots", "4"])
    assert texts(output) == f"{1 - int(taken)}\n"


@pytest.mark.fault(2)
def test_a_signal_while_it_waits_for_a_gpu_ends_it_too(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slots, "_TEMPORARY", tmp_path)
    monkeypatch.setenv("CHROMOLIB_DEVICES", "1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    output = small()
    monkeypatch.setattr("time.sleep", lambda _: signal.raise_signal(signal.SIGUSR1))  # it looks, sleeps, looks again
    with slots.take(4), pytest.raises(SystemExit) as exit:
        execute.main(["99_small", str(output)])
    assert exit.value.code == execute.INTERRUPTED == 75
    assert "goes on where it was" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.fault(2)
@pytest.mark.parametrize("stubborn", [False, True])
def test_a_signal_ends_the_kernel(small, tmp_path, monkeypatch, stubborn):
    """The cell signals the runner itself; one that ignores the interrupt is killed."""
    monkeypatch.setattr(execute, "GRACE", 0.5 if stubborn else 60)
    ignore = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" if stubborn else ""
    work = f"import os, threading\nprint(os.getpid(), flush=True)\n{ignore}os.kill(os.getppid(), 15)"
    work += "\nthreading.Event().wait()"
    output = small(work=work)
    with pytest.raises(SystemExit) as exit:
        execute.main(["99_small", str(output)])
    assert exit.value.code == execute.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(texts(output)), 0)


@pytest.mark.fault(1)
def test_a_killed_kernel_fails_the_run_and_is_not_started_again(small, tmp_path):
    output = small(work=f"import os\nopen({str(tmp_path / 'starts')!r}, 'a').write('x')\nos.kill(os.getpid(), 9)")
    with pytest.raises(SystemExit, match=r"the kernel was killed.*goes on with what was saved"):
        execute.main(["99_small", str(output)])
    assert (tmp_path / "starts").read_text() == "x"


@pytest.mark.fault(26)
def test_an_output_that_cannot_be_written_is_said(small, tmp_path):
    small()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"file/out\.ipynb: cannot be written"):
        execute.main(["99_small", str(tmp_path / "file" / "out.ipynb")])


def test_what_the_notebook_refuses_is_said_without_a_traceback(small):
    output = small(work="from chromolib.errors import StudyError\nraise StudyError('no data')")
    with pytest.raises(SystemExit) as exit:
        execute.main(["99_small", str(output)])
    assert exit.value.code == "99_small: no data"


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
