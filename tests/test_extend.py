"""What the README says of extending the study is all there is to do: shown in a copy of the project."""

import os
import shutil
import subprocess
import sys

import pytest

from chromolib import paths

PARTS = ("chromolib", "notebooks", "parameters", "tests", "workflow", "runs/reference")
FILES = ("README.md", "Makefile", "Snakefile", "pyproject.toml", "CITATION.cff")

ARCHITECTURE = {
    "parameters/architectures.yaml": (
        "resnet34:",
        "resnet18: { title: ResNet-18, timm_name: resnet18.a1_in1k, cam_layer: layer4 }\nresnet34:",
    ),
    "parameters/architecture/resnet18.yaml": ("", "architecture: resnet18\nadam_learning_rate: 1.0e-4 # [ours]\n"),
}
DATASET = {
    "parameters/sources.yaml": (
        "bioimlab:\n",
        "r_set:\n  stain: R\n  places: [r_set*]\n  obtain: a drawer\n  licence: none\n  first_class: 1\n"
        "  layout: '(?P<cell>[^/]+)/(?P<class>\\d+)_\\d+'\n  example: r_set/1/23_0.png\n\nbioimlab:\n",
    ),
    "README.md": ("| `cir` |", "| `r_set` | R | unknown | `r_set*` | a drawer |\n| `cir` |"),
    "parameters/profile/mine.yaml": ("", "profile: mine\nq_band: r_set # [ours]\n"),
}
APPROACH = {
    "parameters/approach/late.yaml": ("", "approach: late\nstart: parent\nparent: scratch\nkeep_head: false # [ours]\n")
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("additions", "modules", "words"),
    [
        (
            ARCHITECTURE,
            ("architectures", "gradcam", "parameters", "workflow"),
            "resnet18 or needs or parameter_file or unknown_name",
        ),
        (DATASET, ("datasets", "parameters", "readme"), "r_set or listed or mine or the_names"),
        (APPROACH, ("parameters", "tables", "claims"), "approach or late"),
    ],
    ids=("architecture", "data set", "approach"),
)
def test_an_addition_is_what_the_readme_says_and_nothing_else(tmp_path, additions, modules, words):
    for part in PARTS:
        shutil.copytree(paths.ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(paths.ROOT / file, tmp_path)
    for file, (old, new) in additions.items():
        text = (tmp_path / file).read_text() if old else ""
        assert old in text and ((tmp_path / file).exists() == bool(old))
        (tmp_path / file).write_text(text.replace(old, new, 1) if old else new)
    tests = [f"tests/test_{module}.py" for module in modules]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-k", words, *tests]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
