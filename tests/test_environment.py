"""The ways to install agree: pyproject.toml is the one list, and the others refer to it."""

import json
import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from chromolib import paths
from chromolib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALLED = [PROJECT["dependencies"], *(texts for name, texts in EXTRAS.items() if name != "benchmark")]
LISTED = [Requirement(text) for texts in INSTALLED for text in texts]
REQUIREMENTS = [
    requirement for requirement in LISTED if requirement.name != PROJECT["name"]
]  # an extra includes others


def test_conda_installs_this_project_with_the_tested_versions():
    (by_pip,) = [item["pip"] for item in CONDA if isinstance(item, dict)]
    assert by_pip == ["--constraint constraints.txt", "--editable .[test]"]


def test_the_workflow_file_runs_on_linux_what_is_run_here():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert [step["run"] for step in jobs["linux"]["steps"] if "run" in step][-1] == ".ci/run"
    matrix = jobs["elsewhere"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in matrix["python"])
    assert matrix["python"][0] == min(matrix["python"]) == PROJECT["requires-python"].removeprefix(">=")


def test_the_measured_sizes_are_of_the_tested_version():
    tested = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert f"PyTorch {tested} is a download of" in (ROOT / "README.md").read_text(), "measure it again"


def test_every_page_that_installs_says_the_same():
    command = paths.INSTALL.format("test")
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"].startswith(command.replace('"', "'"))
    for name in ("README.md", "CONTRIBUTING.md"):
        assert command.removeprefix("python -m ") in (ROOT / name).read_text(), name


def test_the_tests_take_whatever_a_study_takes():
    assert "chromolib[slurm,book]" in EXTRAS["test"] and "chromolib[train]" in EXTRAS["slurm"]


def test_conda_takes_the_same_python():
    assert f"python{PROJECT['requires-python']}" in CONDA


def test_no_package_is_listed_twice():
    listed = [requirement.name for requirement in REQUIREMENTS]
    assert len(set(listed)) == len(listed)
    names = {re.split(r"[<>=]", item)[0] for item in CONDA if isinstance(item, str)}
    assert not names & {requirement.name for requirement in REQUIREMENTS}


def test_the_tested_versions_lie_in_the_allowed_ranges():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    tested = dict(line.split("==") for line in lines)
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(tested[requirement.name]), requirement
