"""Parameters: the notebooks' own cells are the only place where a name, a type and a default are defined.

A parameter file is flat YAML and may hold any parameter of any notebook of the study; each notebook
takes those it knows. A name that no notebook knows, or a value of another type, stops a run before
any work.
"""

import ast
import difflib
import json
import math
import re
from functools import cache
from pathlib import Path

import yaml

from chromolib.errors import StudyError
from chromolib.paths import NOTEBOOKS, PARAMETERS, ROOT

_TASK = re.compile(r"[a-z0-9]+_band")
_HINTS = {  # by the type of a default: what a wrong value may come from
    float: "; YAML reads 1e-4 as text, write 1.0e-4",
    list: "; write a list, such as [a, b]",
    str: "; put a word that YAML reads as something else into quotes",
}


class _Reader(yaml.SafeLoader):
    """YAML where a name may stand only once: plain YAML takes the last one without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice!r} stands there twice")
        return super().construct_mapping(node, deep)


def parse(text, origin):
    """What a text in YAML says; StudyError, in one line that begins with `origin`, where it is none."""
    try:
        return yaml.load(text, _Reader)
    except yaml.YAMLError as error:
        raise StudyError(f"{origin}: cannot be read as YAML ({' '.join(str(error).split())}); mend it") from error


def names(kind):
    """Sorted names of the parameter files of a kind: "profile", "architecture" or "approach"."""
    return sorted(path.stem for path in (PARAMETERS / kind).glob("*.yaml"))


def path(kind, name):
    """The parameter file of that kind and name, for example ("profile", "demo"); StudyError if there is none."""
    file = PARAMETERS / kind / f"{name}.yaml"
    if name not in names(kind):
        raise StudyError(f"{kind} {name!r}: no such file {file}; there are {', '.join(names(kind))}")
    return file


def profile_files(name):
    """The parameter files of a profile: its own, after those of the profiles that it varies.

    A variation is named after what it varies and lists only what differs: mini_cell is mini.yaml,
    then mini_cell.yaml.
    """
    own, words = path("profile", name), name.split("_")
    bases = ("_".join(words[:count]) for count in range(1, len(words)))
    return [*(path("profile", base) for base in bases if base in names("profile")), own]


def load(*files):
    """The values of parameter files, a later file before an earlier one: dict of name to value."""
    values = {}
    for file in files:
        origin = f"parameter file {file}"
        try:
            text = Path(file).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise StudyError(f"{origin}: cannot be read ({error}); name another") from error
        except UnicodeError as error:
            raise StudyError(f"{origin}: is no text in UTF-8 ({error}); save it as UTF-8") from error
        content = parse(text, origin)
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise StudyError(f"{origin}: must hold lines of `name: value`")
        values.update(content)
    return values


def approach(name):
    """The values of the parameter file of an approach: dict of name to value."""
    return load(path("approach", name))


def of_profile(name, *further):
    """The defaults of all notebooks under the values of a profile, and of `further` parameter files."""
    return known() | load(*profile_files(name), *further)


def near(word, words):
    """Words for a message that ask whether another of `words` was meant, where one is nearly the same; or ""."""
    found = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def notebook_text(notebook):
    """The file of a notebook of the study, given without `.ipynb`, as text; StudyError where it cannot be read."""
    try:
        return (NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8")
    except OSError as error:
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")))
        raise StudyError(f"notebook {notebook!r}: cannot be read ({error.strerror}); there are {there}") from error


@cache
def _cells(notebook):
    """Sources of the code cells of a notebook: those tagged `parameters`, and the others."""
    tagged, others = [], []
    for cell in json.loads(notebook_text(notebook))["cells"]:
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


def tasks(values):
    """The tasks among parameters, called `<staining>_band`, each with the name of its data set.

    The notebooks know q_band and g_band; a profile adds one by its name alone, such as `c_band:
    my_cells`.
    """
    return {name: value for name, value in values.items() if _TASK.fullmatch(name)}


def parent(values):
    """(profile, task, approach) of the run that a run with these parameters begins from.

    `parent` is an approach, or `<task>/<approach>`. Without a task it is the other staining's: of
    several the first.
    """
    task, _, approach = values["parent"].rpartition("/")
    others = [name for name in tasks(values) if name != values["task"]]
    if task and task not in others:
        raise StudyError(f"parameter 'parent': {task!r} is not another task, which are {', '.join(others)}")
    return values.get("parent_profile") or values["profile"], task or others[0], approach


def of_run(values):
    """All parameters of a training: what it was not given has its default, and what it does not use is empty."""
    values = defaults("03_training") | values
    return values if values["start"] == "parent" else values | {"parent_profile": ""}


def known():
    """Names and default values of all notebooks together."""
    return {
        name: value for file in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) for name, value in defaults(file.stem).items()
    }


def select(notebook, values):
    """Of `values`, those that the notebook knows, converted to their types; StudyError for unknown or mistyped ones."""
    every = dict.fromkeys(filter(_TASK.fullmatch, values), "") | known()
    for name in values:
        if name not in every:
            raise StudyError(f"parameter {name!r}: no notebook knows it{near(name, every)}")
    own = defaults(notebook)
    typed = {name: _typed(name, value, (every | own)[name]) for name, value in values.items()}
    further = tasks(own) and tasks(typed)  # those of a profile, for notebooks that know of tasks
    return {name: value for name, value in typed.items() if name in own or name in further}


def check(notebook, namespace):
    """All parameters of a running notebook, from its `globals()`, checked: dict of name to value.

    Papermill itself only warns about an unknown name. The cell it injects begins with `#
    Parameters`; its names are found in IPython's history of inputs, so that variables defined later
    are never taken for parameters. StudyError, too, where the notebook lies in another copy of the
    project than the library: its results would lie with that one, and name a code that was not all.
    """
    copy = Path.cwd().parent
    if (copy / "chromolib" / "parameters.py").exists() and not copy.samefile(ROOT):
        raise StudyError(
            f"{copy}: its notebook would run with the library of another copy, {ROOT}, and leave its results there. "
            f"Type `python -m chromolib lab` in {copy}, or install that copy into this environment"
        )
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
        hint = _HINTS.get(type(default), "")
        raise StudyError(f"parameter {name!r}: {value!r} is not of the type of its default {default!r}{hint}")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise StudyError(f"parameter {name!r}: {number} is no number; give one, such as its default {default}")
    return value
