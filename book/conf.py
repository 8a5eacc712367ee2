"""The book: a website of the executed notebooks, the claims, how-to pages and the library, readable without a network.

    python -m sphinx -c book . book/_build/html

The source folder is the project itself, so that notebooks, README and book link to each other as they do on disk.
Pages in book/ are Jinja templates: what they say of results is read from runs/reference/ when the book is built.
"""

import inspect
import itertools
import json
import pkgutil
import posixpath
import re
import shutil
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import chromolib
from chromolib import figures, paths

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "runs" / "reference"

project = "Chromosomes, two stainings and a network"
author = "The chromolib authors"
version = release = chromolib.__version__
html_title = "Does an intermediate staining help a chromosome classifier?"
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
root_doc = "book/index"
include_patterns = ["book/*.md", "notebooks/0*.ipynb", "runs/reference/*/0*.ipynb"]
include_patterns += ["CLAIMS.md", "workflow/README.md"]
include_patterns += ["lesson/README.md", "lesson/exercises.ipynb", "lesson/solutions.ipynb", "lesson/slides.ipynb"]
exclude_patterns = [".*", "book/_*", "data", "weights", "runs/[!r]*", "tests"]
default_role = "code"
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures may be other libraries'

# Notebooks are shown as they were run; a widget or a formula must not fetch anything.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # one search field is enough, that of the sidebar
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_domain_indices = False
html_use_index = False
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_additional_pages = {"index": "start.html"}
templates_path = ["_templates"]
html_copy_source = True
html_show_search_summary = False  # its texts are fetched page by page, which a browser forbids over file://
autodoc_member_order = "bysource"
autodoc_typehints = "none"

PUBLIC = {  # the names that design and readers may rely on, by module
    "datasets": ["load"],
    "images": ["square"],
    "folds": ["split"],
    "architectures": ["create", "describe"],
    "metrics": ["scores"],
    "similarity": ["embed", "median_bandwidth", "mmd2", "mmd2_interval", "permutation_test", "coral"],
    "statistics": ["bootstrap_interval", "corrected_t", "paired_bootstrap", "holm"],
    "intervals": ["Interval"],
    "gradcam": ["maps"],
    "karyotype": ["decode", "call"],
    "predict": ["predict"],
    "runs": ["collect"],
}

READMES = {  # the page of the book that shows what readers of the project's folders find in a README
    "README.md": "book/index.md",
    "runs/reference/README.md": "book/results.md",
    "runs/reference/benchmarks/README.md": "book/speed.md",
}

LOG = logging.getLogger(__name__)


def table(profile, name):
    """A table of the reference as a list of rows; empty where it is not there."""
    file = REFERENCE / profile / "tables" / f"{name}.csv"
    return pd.read_csv(file, keep_default_na=False).to_dict("records") if file.exists() else []


def readme(heading, parts=True, of=""):
    """The text under a heading of the README of a folder, without its own heading; parts: with those of lower level.

    Its links are made to begin at the project's folder, and its headings fit below a page's title.
    """
    file = f"{of}/README.md".lstrip("/")
    text = (ROOT / file).read_text(encoding="utf-8")
    mark = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.M)
    if not mark:
        raise ValueError(f"{file} has no heading {heading!r}, which a page of book/ shows: name another there")
    level = len(mark[1])
    end = re.search(rf"^#{{1,{level if parts else 6}}} ", text[mark.end() :], re.M)
    section = text[mark.end() :][: end.start() if end else None]
    section = re.sub(rf"^#{{{level - 1}}}(#+ )", r"\1", section, flags=re.M)
    return re.sub(r"\[([^]]*)\]\((?![a-z]+:|#)([^)#]*)(#[^)]*)?\)", lambda link: _link(*link.groups(""), of), section)


def _link(words, target, anchor, folder):
    """A link of the README in `folder`, from the project's folder on.

    One to a README is to the page that shows it; one to another folder becomes its text: there is no page for it.
    """
    target = posixpath.normpath(posixpath.join(folder, target))
    return words if (ROOT / target).is_dir() else f"[{words}](/{READMES.get(target, target)}{anchor})"


def real_notebooks():
    """{profile: names of its notebooks} of all that were run on real images."""
    found = sorted(REFERENCE.glob("*/0*.ipynb"))
    return {file.parent.name: [f.stem for f in found if f.parent == file.parent] for file in found}


def reports():
    """{profile: what its parameter file says it is} of all whose report is committed."""
    return {page.parent.name: _about(page.parent.name) for page in sorted(REFERENCE.glob("*/index.html"))}


def _about(profile):
    """The comment at the head of a profile's parameter file, as text; empty where there is none."""
    file = paths.PARAMETERS / "profile" / f"{profile}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return " ".join(line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def modules():
    return [module.name for module in pkgutil.iter_modules(chromolib.__path__) if module.name != "__main__"]


CONTEXT = {
    "readme": readme,
    "table": table,
    "profiles": sorted(folder.parent.parent.name for folder in REFERENCE.glob("*/tables/claims.csv")),
    "real": real_notebooks(),
    "reports": reports(),
    "title": html_title,
    "modules": modules(),
    "public": PUBLIC,
    "claims": yaml.safe_load((paths.PARAMETERS / "claims.yaml").read_text(encoding="utf-8")),
}


def prepare(app, name, source):
    """Before a page is parsed: fill in a template of the book, or give a notebook's pictures their text."""
    if name.startswith("book/"):
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        source[0] = environment.from_string(source[0]).render(CONTEXT)
    elif app.env.doc2path(name).suffix == ".ipynb":
        source[0] = json.dumps(describe(json.loads(source[0]), name))
    else:  # no README is a page: its readers are sent to the page that shows what they look for
        for link, page in (("../README.md", "start"), ("runs/reference/README.md", "results")):
            source[0] = source[0].replace(f"]({link})", f"](/book/{page}.md)")


def describe(notebook, name):
    """Give every picture a text: the heading above it, and what its cell, or its figure's docstring, says it shows."""
    heading, function = "", None
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.*)", text, re.M) or [heading])[-1]
            cell["source"] = re.sub(r"\A# .*", lambda title: f"{title[0]}{_where(name)}", text)
            continue
        function = (re.findall(r"figures\.(\w+)\(", text) or [function])[-1]
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            of_output = [output.get("metadata", {}).get("image/png", {}).get("alt") for output in cell["outputs"]]
            in_code = re.findall(r'\b(?:alt|title)="([^"]*)"', text)  # as in the call of save_figure
            given = [*filter(None, of_output), *in_code, _shown(function)][0]
            alt = f"{heading}. {given}".replace("`", "").replace("?.", "?")
            if not given:
                LOG.warning("%s: nothing says what the picture under %r shows", name, heading)
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": alt}
    return notebook


def _shown(function):
    """The first sentence of the docstring of a function of chromolib.figures: what its figure shows."""
    says = inspect.getdoc(getattr(figures, function or "", None)) or ""
    return " ".join(re.split(r";|[.](?:$|\s)", says)[0].split())


def _where(name):
    """What tells a notebook's title apart from that of the same notebook run on other data."""
    return f" (real images, profile {Path(name).parent.name})" if name.startswith("runs/") else ""


def docstring(app, what, name, thing, options, lines):
    """Docstrings are plain prose: their signs mean themselves, and an indented paragraph is shown as it stands."""
    paragraphs = "\n".join(lines).strip().split("\n\n")
    for i, paragraph in enumerate(paragraphs):
        if all(line.startswith("    ") for line in paragraph.splitlines()):
            paragraphs[i] = "::\n\n" + paragraph
        elif not paragraph.lstrip().startswith("- "):
            prose = " ".join(line.strip() for line in paragraph.splitlines())
            paragraphs[i] = re.sub(r"`[^`]+`|[*|_\\]", lambda sign: _escape(sign[0]), prose)
    lines[:] = [*"\n\n".join(paragraphs).splitlines(), ""]


def _escape(sign):
    return f"`{sign}`" if sign.startswith("`") else f"\\{sign}"


def formula(self, node):
    self.body.append(tex2mathml(node.astext(), as_block=node.tagname == "math_block"))
    raise SkipNode


def mend(app, error):
    """What the theme and pandas leave for people who hear a page: names, landmarks, and no header without a word."""
    if error or app.builder.format != "html":
        return
    for file in Path(app.outdir).rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        text = text.replace('<summary><span class="toctree', '<summary aria-label="Its pages"><span class="toctree')
        text = re.sub(
            r'(?<!Home">)<a class="navbar-brand.*?</a>', r'<nav aria-label="Home">\g<0></nav>', text, flags=re.S
        )
        text = re.sub(r"<th([^>]*)>\s*(?:<p></p>)?\s*</th>", r"<td\1></td>", text)
        file.write_text(text, encoding="utf-8")


def add_reports(app, error):
    """Each profile's report as it is committed, with the files it shows and links to, so that the book stands alone."""
    if error or app.builder.format != "html":
        return
    for page in REFERENCE.glob("*/index.html"):
        links = re.findall(r'(?:href|src)="([^"#:]+)"', page.read_text(encoding="utf-8"))
        for name in {page.name, *links}:
            copy = Path(app.outdir) / page.parent.relative_to(ROOT) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page.parent / name, copy)


def setup(app):
    app.connect("build-finished", mend)
    app.connect("build-finished", add_reports)
    app.connect("source-read", prepare)
    app.connect("autodoc-process-docstring", docstring)
    app.add_html_math_renderer("mathml", inline_renderers=(formula, None), block_renderers=(formula, None))
