"""Parameters: the notebooks' own cells are the only place where a name, a type and a default are defined.

A parameter file is flat YAML and may hold any parameter of any notebook of the study; each notebook takes those it
knows. A name that no notebook knows, or a value of another type, stops a run before any work.
"""

import ast
import difflib
import json
from functools import cache
from pathlib import Path

import yaml

from chromolib.errors import StudyError
from chromolib.paths import NOTEBOOKS, PARAMETERS

TASKS = {"q_band": "g_band", "g_band": "q_band"}  # each target and its other staining


def names(kind):
    """Sorted names of the parameter files of a kind: "profile", "architecture" or "approach"."""
    return sorted(path.stem for path in (PARAMETERS / kind).glob("*.yaml"))


def path(kind, name):
    """The parameter file of that kind and name, for example ("profile", "demo"); StudyError if there is none."""
    file = PARAMETERS / kind / f"{name}.yaml"
    if not file.is_file():
        raise StudyError(f"{kind} {name!r}: no such file {file}; there are {', '.join(names(kind))}")
    return file


def profile_files(name):
    """The parameter files of a profile: its own, after those of the profiles that it varies.

    A variation is named after what it varies and lists only what differs: mini_cell is mini.yaml, then mini_cell.yaml.
    """
    own, words = path("profile", name), name.split("_")
    bases = ("_".join(words[:count]) for count in range(1, len(words)))
    return [*(path("profile", base) for base in bases if base in names("profile")), own]


def load(*files):
    """The values of parameter files, a later file before an earlier one: dict of name to value."""
    values = {}
    for file in files:
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise StudyError(f"parameter file {file}: cannot be read ({error}); mend or name another") from error
        if not isinstance(content, dict):
            raise StudyError(f"parameter file {file}: must hold lines of `name: value`")
        values.update(content)
    return values


@cache
def _cells(notebook):
    """Sources of the code cells of a notebook: those tagged `parameters`, and the others."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged, others = [], []
    for cell in cells:
        if cell["cell_type"] == "code":
            group = tagged if "parameters" in cell["metadata"].get("tags", []) else others
            group.append("".join(cell["source"]))
    return tagged, others


def source(notebook):
    """The code of a notebook, given without `.ipynb`, but for the cell of its parameters."""
    return "\n".join(_cells(notebook)[1])


def defaults(notebook):
    """Names and default values in the cell tagged `parameters` of a notebook, given without `.ipynb`."""
    tagged, _ = _cells(notebook)
    if len(tagged) != 1:
        raise StudyError(f"{notebook}.ipynb: needs exactly one cell tagged `parameters`, has {len(tagged)}")
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(tagged[0]).body}


def known():
    """Names and default values of all notebooks together."""
    return {
        name: value for file in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) for name, value in defaults(file.stem).items()
    }


def select(notebook, values):
    """Of `values`, those that the notebook knows, converted to their types; StudyError for unknown or mistyped ones."""
    every = known()
    for name in values:
        if name not in every:
            near = difflib.get_close_matches(name, every, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StudyError(f"parameter {name!r}: no notebook knows it{hint}")
    own = defaults(notebook)
    return {name: _typed(name, value, own[name]) for name, value in values.items() if name in own}


def check(notebook, namespace):
    """All parameters of a running notebook, from its `globals()`, checked: dict of name to value.

    Papermill itself only warns about an unknown name. The cell it injects begins with `# Parameters`; its names are
    found in IPython's history of inputs, so that variables defined later are never taken for parameters.
    """
    injected = [source for source in namespace.get("In", []) if source.startswith("# Parameters")]
    given = {target.id for source in injected for line in ast.parse(source).body for target in line.targets}
    own = defaults(notebook)
    return own | select(notebook, {name: namespace[name] for name in given | own.keys()})


def _typed(name, value, default):
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    same = type(value) is type(default)
    if same and isinstance(default, list):
        same = bool(value) and all(type(item) is type(default[0]) for item in value)
    if not same:
        hint = "; YAML reads 1e-4 as text, write 1.0e-4" if isinstance(default, float) else ""
        raise StudyError(f"parameter {name!r}: {value!r} is not of the type of its default {default!r}{hint}")
    return value
