"""Run committed notebooks again, in place: python -m chromolib notebooks 01_data_exploration ...

What changes from run to run is left out, so that a notebook that gives the same leaves no difference for git; pictures
have 256 colours, as published ones have.
"""

import re
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from chromolib import execute, files, parameters, paths, report
from chromolib.errors import StudyError

TIMED = "timed"  # tag of a cell that tells how long something took: its committed output stays while its code does
_SECONDS = re.compile(r"^(fold \d+  epoch .*?)  [\d.]+ s\b.*$", re.MULTILINE)  # of `training.progress`
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory
_STYLED = re.compile(r"\bT_[0-9a-f]{5}")  # pandas gives each styled table a name by chance


def again(name):
    """Execute notebooks/<name>.ipynb from the first cell to the last and write it back; StudyError where it fails."""
    file = paths.NOTEBOOKS / f"{name}.ipynb"
    before = nbformat.reads(parameters.notebook_text(name), as_version=4)
    notebook = nbformat.from_dict(before)
    options = {"record_timing": False, "coalesce_streams": True, "kernel_manager_class": execute.Kernel}
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(paths.NOTEBOOKS)}}, **options)
    try:
        client.execute()
    except CellExecutionError as error:
        raise StudyError(f"{file}: {error}; it is left as it was") from error
    strip(notebook, before)
    report.few_colours(notebook)
    files.write(file, nbformat.writes(notebook) + "\n")


def strip(notebook, before):
    """Take out of a notebook as executed, in place, what changes from run to run.

    before: the notebook as it was, from which cells tagged `timed` keep their output if their code is the same.
    """
    notebook.metadata.get("language_info", {}).pop("version", None)
    kept = {cell.source: cell.outputs for cell in before.cells if TIMED in cell.metadata.get("tags", [])}
    report.without_traces(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs = kept.get(cell.source) or [_steady(output, number) for output in cell.outputs]


def _steady(output, number):
    """An output of the cell with that number, without addresses, seconds of a training, and names by chance."""
    if output.output_type == "stream":
        output.text = _SECONDS.sub(r"\1", output.text)
    for kind, text in output.get("data", {}).items():
        if isinstance(text, str) and kind.startswith("text/"):
            output.data[kind] = _STYLED.sub(f"T_{number:05d}", _ADDRESS.sub("", text))
    return output


def main(arguments=None):
    """Execute each notebook that is named, and say so."""
    names = sys.argv[1:] if arguments is None else arguments
    if not names:
        raise StudyError("which notebooks? name some, such as 01_data_exploration")
    for name in names:
        again(name.removesuffix(".ipynb"))
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
