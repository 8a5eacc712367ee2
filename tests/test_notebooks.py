"""The committed notebooks: freshly run, in order, without errors, and mostly text. nbval runs them besides."""

import json
import statistics

import pytest

from chromolib import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return json.loads(request.param.read_text())["cells"]


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_eight_in_order():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


def test_it_was_run_from_the_first_cell_to_the_last(cells):
    assert [cell["execution_count"] for cell in code(cells)] == list(range(1, len(code(cells)) + 1))


def test_it_shows_no_error_and_no_warning(cells):
    outputs = [output for cell in code(cells) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


def test_it_names_no_place_on_the_machine_where_it_ran(cells):
    text = json.dumps(cells)
    assert str(paths.ROOT) not in text


def test_it_teaches(cells):
    assert len(cells) - len(code(cells)) >= len(code(cells))
    lines = [len("".join(cell["source"]).splitlines()) for cell in code(cells)]
    assert statistics.median(lines) <= 5
    titles = [cell for cell in cells if cell["cell_type"] == "markdown" and "".join(cell["source"]).startswith("# ")]
    assert len(titles) == 1
