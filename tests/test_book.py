"""The book is built without a warning, every picture has a text, and no page asks the network for anything."""

import posixpath
import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

from chromolib import paths

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """The folder of the built book, and the output of its building."""
    folder = tmp_path_factory.mktemp("book")
    words = [sys.executable, "-m", "sphinx", "--keep-going", "-q", "-c", paths.ROOT / "book"]
    done = subprocess.run(
        [*words, "-d", folder / "doctrees", paths.ROOT, folder / "html"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "html", done.stderr


@pytest.fixture(scope="session")
def pages(book):
    """{name: parsed page} of the whole book."""
    files = [file for file in book[0].rglob("*.html") if "_static" not in file.parts]
    texts = {file.relative_to(book[0]).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return {name: BeautifulSoup(text, "html.parser") for name, text in texts.items()}


def test_it_is_built_without_a_warning(book):
    assert book[1] == ""


def test_it_has_the_notebooks_and_the_pages(pages):
    notebooks = [*paths.NOTEBOOKS.glob("0*.ipynb"), *(paths.ROOT / "runs" / "reference").glob("*/0*.ipynb")]
    own = list((paths.ROOT / "book").glob("*.md"))
    wanted = {str(file.relative_to(paths.ROOT).with_suffix(".html")) for file in notebooks + own}
    assert len(notebooks) > 7 and wanted <= pages.keys()


def test_it_leads_to_the_lesson_the_claims_and_every_report(book, pages):
    start, real = (
        {link["href"] for link in pages[f"book/{name}.html"].select("article a[href]")} for name in ("index", "real")
    )
    assert {"../lesson/README.html", "../CLAIMS.html", "start.html#two-commands", "results.html#check-it"} <= start
    reports = list((paths.ROOT / "runs" / "reference").glob("*/index.html"))
    assert len(reports) > 3
    for report in reports:
        name = report.relative_to(paths.ROOT).as_posix()
        assert f"../{name}" in start & real and (book[0] / name).read_bytes() == report.read_bytes()


def test_every_page_has_a_title_and_one_main_heading(pages):
    for name, page in pages.items():
        assert page.html["lang"] == "en" and len(page.title.text.strip()) > 3, name
        headings = [heading for heading in page.find_all("h1") if not heading.find_parent(class_="onlyprint")]
        assert len(headings) == 1 and headings[0].text.strip(), name


def test_every_picture_says_what_it_shows(pages):
    pictures = [(name, image) for name, page in pages.items() for image in page.find_all("img")]
    assert len(pictures) > 40
    for name, image in pictures:
        text = image.get("alt", "")
        assert len(text) > 15 and not re.search(r"\.(png|svg)$|^image$", text), (name, image)


def test_nothing_is_loaded_from_elsewhere(book, pages):
    for name, page in pages.items():
        for element in page.find_all(list(LOADED)):
            address = element.get(LOADED[element.name]) or ""
            assert not re.match(r"(https?:)?//", address), (name, element)
            local = address.partition("?")[0].partition("#")[0]
            if local and not address.startswith("data:"):
                assert (book[0] / name).parent.joinpath(local).exists(), (name, element)
    for file in book[0].rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import ['\"]http", file.read_text(encoding="utf-8")), file


def test_every_link_within_the_book_leads_somewhere(book, pages):
    anchors = {name: {element["id"] for element in page.select("[id]")} for name, page in pages.items()}
    for name, page in pages.items():
        for link in page.select("main a[href]"):
            target, _, anchor = link["href"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
            assert (book[0] / there).exists(), (name, link["href"])
            assert not anchor or there not in anchors or anchor in anchors[there], (name, link["href"])


def test_formulas_need_no_script(pages):
    formulas = [formula for page in pages.values() for formula in page.find_all("math")]
    assert len(formulas) > 10 and all("\\" not in formula.text for formula in formulas)
    assert not any("mathjax" in str(script).lower() for page in pages.values() for script in page.find_all("script"))


def test_every_claim_has_a_verdict_of_each_profile(pages):
    claims, text = pages["book/claims.html"], pages["book/claims.html"].text
    rows = claims.find("table").find_all("tr")[1:]
    assert len(rows) == 8
    for row in rows:
        for cell in row.find_all("td")[2:]:
            assert cell.text.strip() in ("confirmed", "contradicted", "inconclusive", "partial", "not run")
    assert "{%" not in text and "{{" not in text and "None" not in text


def test_the_public_names_are_documented(pages):
    ids = {element["id"] for element in pages["book/api.html"].find_all("dt") if element.get("id")}
    for name in ("datasets.load", "folds.split", "similarity.mmd2_interval", "karyotype.call", "runs.collect"):
        assert f"chromolib.{name}" in ids


SEEN = ["index", "own_data", "claims", "api"]  # pages of book/, and others, that are looked at in a browser
ELSEWHERE = ["notebooks/04_statistics.html", "lesson/README.html"]


@pytest.mark.parametrize("name", [*(f"book/{name}.html" for name in SEEN), *ELSEWHERE])
def test_a_page_is_readable_at_every_width_and_by_everyone(book, visit, violations, name):
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = visit(book[0] / name, width, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert violations(page) == [], (width, scheme)


def test_the_search_finds_a_word_without_a_network(book, visit):
    page = visit(book[0] / "search.html")
    page.locator("input[name=q]:visible").fill("Macro-F1")
    page.keyboard.press("Enter")
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").all_inner_texts()
    assert len(found) > 3 and any("glossary" in text.lower() for text in found), found


def test_without_scripts_texts_tables_and_pictures_are_there(book, chromium):
    page = chromium.new_page(java_script_enabled=False)
    page.goto((book[0] / "notebooks" / "04_statistics.html").as_uri())
    assert page.locator("main h1:visible").count() == 1 and page.locator("main table:visible").count()
    assert page.locator("main img:visible").first.bounding_box()["width"] > 100
    page.close()
