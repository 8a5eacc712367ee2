"""Makes the students' and the teacher's notebook from one source, and runs what is shown: `python lesson/make.py`.

In `source.ipynb` the cells tagged `solution` hold the answers. Of such a cell the students get its comments down to
`# YOUR CODE`, each name that it assigns as `name = ...`, and each function without its body. Names that begin with an
underscore are the solution's own and go.
"""

import ast
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parent


def asked(source):
    """What the students get of the source of a solution: its leading comments, and empty answers."""
    comments = [line for line in source.splitlines() if line.startswith("#")]
    functions, names = [], []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            functions.append(f"def {node.name}({ast.unparse(node.args)}): ...\n")
        elif isinstance(node, ast.Assign):
            found = [part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)]
            names += [f"{name} = ..." for name in found if not name.startswith("_")]
    return "\n".join([*comments, *functions, *([""] if functions and names else []), *names]).strip()


def made(solved):
    """The notebook with its solutions, or, not solved, with the places where they go; without outputs."""
    notebook = nbformat.read(FOLDER / "source.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if not solved and "solution" in cell.metadata.get("tags", []):
                cell.source = asked(cell.source)
    title = "Solutions" if solved else "Exercises"
    notebook.cells[0].source = notebook.cells[0].source.replace("# Source", f"# {title}")
    return notebook


def ran(notebook):
    """The notebook after a run from its first cell to its last, with nothing in it that changes from run to run."""
    from nbclient import NotebookClient

    steady = {"record_timing": False, "coalesce_streams": True}  # what is printed comes in pieces, as chance has it
    NotebookClient(notebook, **steady, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return notebook


def write(name, notebook):
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    write("exercises", made(solved=False))
    write("solutions", ran(made(solved=True)))
    write("slides", ran(nbformat.read(FOLDER / "slides.ipynb", as_version=4)))
