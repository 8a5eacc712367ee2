"""Pages in a real browser: Debian's Chromium, over file://, without a network."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from chromolib import browse, metrics, paths, report, runs

PAGE = """<!DOCTYPE html><html lang="en"><head><title>T</title></head><body><main><h1>T</h1>{}</main></body></html>"""


def test_the_checks_themselves_find_what_is_wrong(chromium, visit, violations, tmp_path):
    """An image without a text is found, and a clean page has nothing."""
    (tmp_path / "bad.html").write_text(PAGE.format('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'))
    (tmp_path / "good.html").write_text(PAGE.format("<p>Read.</p>"))
    assert [line.split(":")[0] for line in violations(visit(tmp_path / "bad.html"))] == ["image-alt"]
    assert violations(visit(tmp_path / "good.html")) == []


def grey(number):
    return (10 * (number % 25)).astype(np.uint8)


@pytest.fixture(scope="module")
def evening(tmp_path_factory):
    """The page of the committed evening_patient, made anew; its pictures are plain ones, each of a known grey."""
    place = tmp_path_factory.mktemp("runs") / "evening_patient"
    shutil.copytree(paths.ROOT / "runs" / "reference" / "evening_patient", place)
    for notebook in place.glob("*.ipynb"):
        if not notebook.name.startswith("02"):  # the one with formulas
            notebook.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHROMOLIB_RUNS", str(place.parent))
        patch.setattr(browse, "_pictures", lambda record, wanted: np.tile(grey(np.arange(len(wanted))), (8, 8, 1)).T)
        return report.write("evening_patient")


def found(page):
    return int(page.locator("#found").inner_text().split()[0])


def test_the_report_is_seen_at_every_width_and_by_everyone(evening, visit, violations):
    for width in (1280, 390):
        page = visit(evening, width)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert violations(page) == []
    assert evening.stat().st_size < 2_000_000
    assert page.locator("#filters").is_visible() and not page.locator("#unread").is_visible()
    page = visit(evening, java_script_enabled=False)
    assert "needs JavaScript" in page.locator("main").inner_text()
    assert page.locator("#table-gains").is_visible() and page.locator("#answer").is_visible()


def test_no_table_is_cut_in_print(evening, visit):
    """On A4, lying, within its margins of 12 mm: 273 mm at 96 px an inch."""
    page = visit(evening, int(273 / 25.4 * 96))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = page.locator("table").evaluate_all("tables => tables.map(t => [t.id, t.scrollWidth])")
    assert len(widths) > 10 and [row for row in widths if row[1] > page.viewport_size["width"]] == []


def test_a_table_sorts_and_filters_by_keyboard(evening, visit):
    page = visit(evening)
    table = page.locator("#table-table1_similarity")
    head = table.locator("th button", has_text="mmd2")
    column = "rows => rows.filter(r => !r.hidden).map(r => Number(r.cells[1].textContent))"
    values = table.locator("tbody tr").evaluate_all(column)
    head.focus()
    for order in (sorted(values), sorted(values, reverse=True)):
        page.keyboard.press("Enter")
        assert table.locator("tbody tr").evaluate_all(column) == order
    label = table.locator("xpath=../preceding-sibling::label[1]").locator("input")
    label.fill("g-q median_dist")
    assert len(table.locator("tbody tr").evaluate_all(column)) == 1


def test_images_filter_as_a_data_frame_does(evening, visit):
    """Counts on the page are those of pandas on the predictions; the time is printed, since others use the machine."""
    folders = sorted((evening.parent / "q_band" / "efficientnet_lite0").iterdir())
    tables = {folder.name: runs.predictions(folder).set_index("file") for folder in folders}
    label, cell = (tables["imagenet"][name] for name in ("label", "cell"))
    answers = {name: table.loc[label.index, metrics.LOGITS].to_numpy().argmax(axis=1) for name, table in tables.items()}
    one, every = answers["imagenet"], np.array(list(answers.values()))  # (n,), (approaches, n)
    wrong = every != label.to_numpy()
    page = visit(evening)
    times = [float(page.locator("#found").get_attribute("data-ms"))]
    steps = [
        (("task", "Q-band (5474)"), len(label)),
        (("answers", "wrong"), wrong.any(axis=0).sum()),
        (("answers", "approaches disagree"), (every != one).any(axis=0).sum()),
        (("answers", "right"), (~wrong).all(axis=0).sum()),
        (("approach", "imagenet"), (one == label).sum()),
        (("answers", "wrong"), (one != label).sum()),
        (("label", "X"), ((one != label) & (label == 22)).sum()),
        (("answered", "7"), ((one == 6) & (label == 22)).sum()),
    ]
    assert found(page) == 8464
    for (name, value), expected in steps:
        page.locator(f"[name={name}]").select_option(label=value)
        times.append(float(page.locator("#found").get_attribute("data-ms")))
        assert found(page) == expected, (name, value)
    page.locator("button[type=reset]").press("Enter")
    page.locator("[name=cell]").fill(cell.iloc[0])
    assert found(page) == (cell == cell.iloc[0]).sum()
    page.locator("[name=cell]").fill("")
    page.locator("#on").press("Enter")
    assert page.locator("#page").inner_text() == "61 to 120" and page.locator("#cards li").count() == 60
    print(f"8464 images filtered in {max(times):.0f} ms at most")


def test_each_card_has_its_own_picture(evening, visit):
    page = visit(evening)
    for first in (0, 60):
        for card in (0, 7, 59):
            picture = Image.open(io.BytesIO(page.locator(".picture").nth(card).screenshot()))
            middle = np.asarray(picture.convert("L"))[36, 36]
            assert abs(int(middle) - int(grey(np.array(first + card)))) < 4
        page.locator("#on").click()


def test_formulas_are_drawn_and_nothing_is_asked_of_the_network(evening, visit):
    page = visit(evening.parent / "02_domain_similarity.html")
    assert page.locator("math").count() >= 10 and "$" not in page.locator(".jp-MarkdownOutput").all_inner_texts()
    assert page.locator("math[display=block]").first.bounding_box()["height"] > 10
