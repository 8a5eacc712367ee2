"""Parameter files against the notebooks' cells, and what stops a run."""

import pytest
import yaml

from chromolib import parameters
from chromolib.errors import StudyError

FILES = [path for kind in ("profile", "architecture", "approach") for path in (parameters.PARAMETERS / kind).glob("*")]
NOTEBOOKS = sorted(path.stem for path in parameters.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_name_in_a_file_is_a_parameter_of_the_same_type(file):
    values, known = parameters.load(file), parameters.known()
    assert values.keys() <= known.keys()
    for name, value in values.items():
        assert type(value) is type(known[name]), name


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_named_after_what_it_sets(file):
    assert parameters.load(file)[file.parent.name] == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_value_has_a_source(file):
    text = file.read_text()
    assert "[ours]" in text or "[paper]" in text or "https://" in text


def test_a_name_has_the_same_type_in_all_notebooks():
    types = {}
    for notebook in NOTEBOOKS:
        for name, value in parameters.defaults(notebook).items():
            assert types.setdefault(name, type(value)) is type(value), f"{name} in {notebook}"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_defaults_are_what_python_makes_of_the_cell(notebook):
    (cell,), _ = parameters._cells(notebook)
    namespace = {}
    exec(cell, {}, namespace)
    assert parameters.defaults(notebook) == namespace


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_sise": 64}, "'image_sise'.*did you mean 'image_size'"),
        ({"adam_learning_rate": "1e-4"}, "'adam_learning_rate'.*1.0e-4"),
        ({"keep_head": 1}, "'keep_head'"),
        ({"seed": True}, "'seed'"),
        ({"folds": ["0"]}, "'folds'"),
        ({"folds": []}, "'folds'"),
        ({"approach": False}, "'approach'.*quotes"),
        ({"folds": 0}, r"'folds'.*write a list, such as \[a, b\]"),
        ({"task": ["q_band"]}, "'task'"),
        ({"task": {"a": 1}}, "'task'"),
    ],
)
def test_unknown_or_mistyped_values_stop(values, message):
    with pytest.raises(StudyError, match=message):
        parameters.select("03_training", values)


def test_a_profile_adds_a_task_by_its_name():
    values = {"c_band": "my_cells", "seed": 1}
    assert parameters.select("03_training", values) == values
    assert parameters.select("05_grad_cam", values) == {"seed": 1}  # reads the data set's name from the run
    both = parameters.defaults("03_training") | values
    assert list(parameters.tasks(both)) == ["q_band", "g_band", "c_band"]
    with pytest.raises(StudyError, match=r"'c_band'.*not of the type"):
        parameters.select("03_training", {"c_band": 3})


def test_a_parameter_that_a_training_does_not_use_tells_no_runs_apart():
    values = {"start": "imagenet", "seed": 1}
    assert parameters.of_run(values | {"parent_profile": "evening"}) == parameters.of_run(values)
    begun = values | {"start": "parent", "parent": "imagenet"}
    assert parameters.of_run(begun | {"parent_profile": "evening"})["parent_profile"] == "evening"
    assert parameters.of_run({})["n_folds"] == 5  # the paper's, as notebook 3 has it


@pytest.mark.parametrize(
    ("task", "parent", "expected"),
    [
        ("q_band", "imagenet", ("smoke", "g_band", "imagenet")),
        ("g_band", "imagenet", ("smoke", "q_band", "imagenet")),
        ("c_band", "scratch", ("smoke", "q_band", "scratch")),
        ("c_band", "g_band/imagenet", ("smoke", "g_band", "imagenet")),
        ("q_band", "c_band/imagenet", ("smoke", "c_band", "imagenet")),
    ],
)
def test_the_run_that_a_run_begins_from(task, parent, expected):
    values = parameters.defaults("03_training") | {"c_band": "my_cells", "task": task, "parent": parent}
    assert parameters.parent(values) == expected
    assert parameters.parent(values | {"parent_profile": "evening"}) == ("evening", *expected[1:])


@pytest.mark.parametrize("parent", ["g_band/imagenet", "r_band/imagenet"])
def test_a_parent_is_of_another_task(parent):
    values = parameters.defaults("03_training") | {"task": "g_band", "parent": parent}
    with pytest.raises(StudyError, match=f"'{parent[:6]}' is not another task, which are q_band"):
        parameters.parent(values)


def test_whole_numbers_serve_where_a_fraction_is_expected():
    assert parameters.select("03_training", {"momentum": 0}) == {"momentum": 0.0}


def test_parameters_of_other_notebooks_are_left_to_them():
    assert parameters.select("03_training", {"architectures": ["resnet34"], "seed": 3}) == {"seed": 3}


def test_a_running_notebook_sees_what_papermill_injected_and_nothing_else():
    namespace = parameters.defaults("03_training") | {"In": ["", "# Parameters\nsede = 1\n"], "sede": 1, "other": 2}
    with pytest.raises(StudyError, match=r"'sede'.*did you mean 'seed'"):
        parameters.check("03_training", namespace)
    namespace["In"] = ["", "# Parameters\nseed = 7\n", "other = 2"]
    assert parameters.check("03_training", namespace | {"seed": 7})["seed"] == 7


def test_a_notebook_of_another_copy_of_the_project_is_refused(tmp_path, monkeypatch):
    for name in ("chromolib", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    parameters.check("03_training", parameters.defaults("03_training"))  # a copy of the notebooks alone
    (tmp_path / "chromolib" / "parameters.py").touch()
    with pytest.raises(StudyError, match=r"library of another copy.*chromolib lab"):
        parameters.check("03_training", parameters.defaults("03_training"))


def test_yaml_reads_1e_4_as_text_and_we_say_so(tmp_path):
    file = tmp_path / "rate.yaml"
    file.write_text("adam_learning_rate: 1e-4")
    assert yaml.safe_load(file.read_text()) == {"adam_learning_rate": "1e-4"}
    with pytest.raises(StudyError, match=r"write 1.0e-4"):
        parameters.select("03_training", parameters.load(file))


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("name", [name for name, value in parameters.known().items() if isinstance(value, float)])
def test_what_is_no_number_is_refused_by_its_name(name, value):
    with pytest.raises(StudyError, match=f"parameter '{name}': .*(nan|inf) is no number"):
        parameters.select("03_training", {name: yaml.safe_load(value)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "cannot be read as YAML"),
        (b"just words", "lines of `name: value`"),
        (b"", "lines of `name: value`"),
        (b"- seed", "lines of `name: value`"),
        (b"1: 2", "lines of `name: value`"),
        (b"? [seed]\n: 2", "cannot be read as YAML"),
        (b"seed: 1\nbatch_size: 8\nseed: 2", "'seed' stands there twice"),
        ("word: \u00e9t\u00e9".encode("latin-1"), "save it as UTF-8"),
        ("seed: 1".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, content, message):
    file = tmp_path / "damaged.yaml"
    file.write_bytes(content)
    with pytest.raises(StudyError, match=rf"damaged\.yaml: .*{message}") as refusal:
        parameters.load(file)
    assert "\n" not in str(refusal.value)


def test_a_mark_of_byte_order_is_no_part_of_a_name(tmp_path):
    (tmp_path / "windows.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\r\n")
    assert parameters.load(tmp_path / "windows.yaml") == {"seed": 1}


def test_a_variation_lists_only_what_differs_from_what_it_varies(tmp_path, monkeypatch):
    (tmp_path / "profile").mkdir()
    for name, text in {"mini": "seed: 1\nbatch_size: 8", "mini_cell": "seed: 2", "minimal": "seed: 3"}.items():
        (tmp_path / "profile" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(parameters, "PARAMETERS", tmp_path)
    assert parameters.load(*parameters.profile_files("mini_cell")) == {"seed": 2, "batch_size": 8}
    assert parameters.load(*parameters.profile_files("minimal")) == {"seed": 3}


@pytest.mark.parametrize("name", ["dmeo", "../approach/scratch", ""])
def test_an_absent_file_lists_those_there_are(name):
    with pytest.raises(StudyError, match="demo"):
        parameters.path("profile", name)
