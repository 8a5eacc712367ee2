"""`import chromolib` stays light, and the library does without what only notebooks need."""

import subprocess
import sys

import pytest

import chromolib


def loaded_after(code):
    """Names of the top-level packages that a fresh Python has loaded after running the code."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", f"{code}; {show}"], capture_output=True, text=True).stdout.split())


def test_nothing_heavy_is_loaded_before_it_is_used():
    assert not loaded_after("import chromolib") & {"torch", "numpy", "pandas", "matplotlib", "timm"}


def test_training_needs_no_jupyter():
    code = "from chromolib import trainer, similarity, statistics"
    assert "torch" in loaded_after(code)
    assert not loaded_after(code) & {"papermill", "jupyterlab", "nbformat", "pytorch_grad_cam", "snakemake"}


def test_what_reads_results_needs_no_torch():
    code = "from chromolib import claims, figures, protocols, report, runs, tables, transfer, variations, whole_cells"
    assert "pandas" in loaded_after(code)
    assert not loaded_after(code) & {"torch", "torchvision", "timm"}


def test_modules_load_when_they_are_first_named():
    assert "pandas" in loaded_after("import chromolib; chromolib.runs.collect")


def test_an_unknown_module_is_an_attribute_error():
    with pytest.raises(AttributeError, match="statistic"):
        _ = chromolib.statistic


def test_the_classes_are_the_human_chromosomes():
    assert chromolib.CLASSES[0] == "1"
    assert chromolib.CLASSES[21:] == ("22", "X", "Y")
