"""The ways to install agree: pyproject.toml is the one list, and the others refer to it."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement

from chromolib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
LISTED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["book"]]]
REQUIREMENTS = [requirement for requirement in LISTED if requirement.name != PROJECT["name"]]  # test includes book


def test_conda_installs_this_project_with_the_tested_versions():
    (by_pip,) = [item["pip"] for item in CONDA if isinstance(item, dict)]
    assert by_pip == ["--constraint constraints.txt", "--editable .[test]"]


def test_conda_takes_the_same_python():
    assert f"python{PROJECT['requires-python']}" in CONDA


def test_no_package_is_listed_twice():
    names = {re.split(r"[<>=]", item)[0] for item in CONDA if isinstance(item, str)}
    assert not names & {requirement.name for requirement in REQUIREMENTS}


def test_the_tested_versions_lie_in_the_allowed_ranges():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    tested = dict(line.split("==") for line in lines)
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(tested[requirement.name]), requirement
