"""The report of a profile: a page that begins with the answer, and what is published of it.

What is read is what the runs and notebooks left; the page's words stand in report.html, its looks in report.css, and
what sorts, filters and shows images in report.js, all of which are written into the one file index.html.

    python -m chromolib.report write PROFILE        runs/<profile>/index.html
    python -m chromolib.report publish PROFILE      runs/reference/<profile>, with a page of its own
"""

import ast
import base64
import gzip
import io
import json
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin

from chromolib import archives, browse, files, metrics, parameters, paths, runs
from chromolib.errors import StudyError, ends_command
from chromolib.tables import RUN

FORMATS = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # no time: equal files
PUBLISHED = (".csv", ".tex", ".parquet", ".json", ".png")
PAGE_ROWS = 60  # of print: a longer table is read as CSV, and is no LaTeX
LARGEST = 1_000_000  # bytes of a notebook: larger ones are not published
_CONTRAST = ["task", "architecture", "baseline", "against", "pooled_gain", "pooled_low", "pooled_high"]
_HELP = {("imagenet", "two_step"), ("scratch", "intermediate")}  # with and without the stop
_CONTROL = ("imagenet_double", "two_step")  # the stop beside as many more steps on the target

# ------------------------------------------------------------------------------------ what notebooks save and read


def save_table(table, profile, name):
    """Write a DataFrame to runs/<profile>/tables/<name>.csv, and as LaTeX beside it where it fits on a page."""
    file = paths.runs() / profile / "tables" / f"{name}.csv"
    with files.replacing(file) as temporary:  # to the end: both are of one table, or stay as they were
        table.to_csv(temporary, index=False)
        if len(table) > PAGE_ROWS:
            file.with_suffix(".tex").unlink(missing_ok=True)  # an earlier, shorter table's
        else:
            latex = table.to_latex(index=False, escape=True, na_rep="", float_format="{:.4g}".format)
            files.write(file.with_suffix(".tex"), latex)


def save_figure(figure, profile, name, caption="", alt=""):
    """Write a figure to runs/<profile>/figures/<name>.png, .svg and .pdf, for the report; returns it, to be shown.

    caption: what the report says below it; alt: what there is to see, for those who cannot. Both stand in the PNG.
    """
    file = paths.runs() / profile / "figures" / name
    for ending, metadata in FORMATS.items():
        about = metadata | ({"Title": caption, "Description": alt} if ending == "png" else {})
        hashed = matplotlib.rc_context({"svg.hashsalt": name})
        with hashed, files.replacing(file.with_name(f"{name}.{ending}")) as temporary:
            figure.savefig(temporary, dpi=110, metadata=about)
            if ending == "png":
                temporary.write_bytes(_in_few_colours(temporary.read_bytes()))
    return figure


def read_table(profile, name):
    """The table that `save_table` wrote, as DataFrame; None where there is none."""
    file = paths.runs() / profile / "tables" / f"{name}.csv"
    return _read(file) if file.exists() else None


def _read(file):
    try:
        if not file.read_bytes().endswith(b"\n"):
            raise ValueError("cut short")
        return pd.read_csv(file)
    except (ValueError, OSError) as error:
        raise StudyError(f"{file}: no table ({error}); delete it and run its notebook again") from error


# -------------------------------------------------------------------------------------------------------- the page


def write(profile):
    """Write runs/<profile>/index.html, and beside it the executed notebooks as HTML; its path.

    What a profile lacks, the page says. StudyError for a profile without a folder, and for damaged results.
    """
    folder = paths.runs() / profile
    if not folder.is_dir():
        raise StudyError(f"profile {profile!r}: nothing of it in {paths.runs()}; make study PROFILE={profile}")
    found = files.matching(folder, "[0-9]*.ipynb") + files.matching(folder, "*/*/*/training.ipynb")
    return _write(folder, profile, [_convert(notebook).relative_to(folder) for notebook in found], images=True)


def _write(folder, profile, notebooks, images):
    """index.html of a folder: notebooks are paths in it to link to; images: whether thumbnails are made."""
    records = [(file.parts[-4:-1], runs.record(file.parent)) for file in files.matching(folder, "*/*/*/run.json")]
    tables = {file.stem: _read(file) for file in files.matching(folder, "tables/*.csv")}
    order = _order()
    if "table2_performance" in tables:  # it has the runs in the order of the grid
        grid = list(tables["table2_performance"].reindex(columns=RUN).itertuples(index=False, name=None))
        records.sort(key=lambda item: grid.index(item[0]) if item[0] in grid else len(grid))
    listed = [{"name": name, "table": table} for name, table in tables.items() if name != "claims" and len(table)]
    shown = browse.images(folder, records)
    stopped = {names[2] for names, _ in records} & {after for _, after in _HELP}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,  # an older run.json may lack an entry
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"name": _name, "cell": _cell}
    content = environment.get_template("report.html").render(
        profile=profile,
        records=records,
        versions=sorted({_versions(record) for _, record in records}),
        answer=answer(tables),
        stopped=stopped,
        approaches=_approaches(profile, records),
        scores=tables.get("table2_performance", pd.DataFrame()).to_dict("records"),
        claims=tables.get("claims"),
        figures=_sorted([_figure(file) for file in files.matching(folder, "figures/*.png")], order),
        tables=_sorted(listed, order),
        latex={file.stem for file in files.matching(folder, "tables/*.tex")},
        notebooks=[path.as_posix() for path in notebooks],
        images=shown,
        sheets=browse.sheets(folder, records, shown) if images else None,
        drawn=[name for _, record in records if (name := record["data"].get("name", "")).startswith("synthetic")],
        packed=_packed,
    )
    files.write(folder / "index.html", content)
    return folder / "index.html"


def _approaches(profile, records):
    """The names of the approaches of a profile: those of its runs, and those that its file, if it has one, asks for."""
    known = profile in parameters.names("profile")
    asked = parameters.of_profile(profile)["approaches"] if known else []
    return sorted({names[2] for names, _ in records} | set(asked))


def _packed(value):
    """A value as JSON, packed by gzip, as base64: a fifth of the space, for pages that are kept in git."""
    return base64.b64encode(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0)).decode()


def answer(tables):
    """What the tables {name: DataFrame} say to the study's question: dict that report.html puts into words.

    help: the rows with a stop against without; alone: those of networks that never saw ImageNet, where help is about
    others; control: those against the matched control. Each is a row of `tables.gains` as dict, with sign: +1 or -1
    where its interval excludes zero (and its p after Holm is at most 0.05), else 0. approaches: the names of all that
    were run; compared: whether there is a table of gains; lacks: columns that it, an older one, has not.
    """
    gains = tables.get("gains")
    lacks = [] if gains is None else [name for name in _CONTRAST if name not in gains]
    found = [tables[name] for name in ("gains", "second_step") if name in tables]
    parts = [table for table in found if {*_CONTRAST} <= {*table.columns}]
    rows = [row for part in parts for row in part.to_dict("records")]
    unique = {tuple(row[name] for name in _CONTRAST[:4]): row | {"sign": _sign(row)} for row in reversed(rows)}
    pairs = {pair: [row for key, row in reversed(unique.items()) if key[2:] == pair] for pair in {*_HELP, _CONTROL}}
    main, alone = pairs["imagenet", "two_step"], pairs["scratch", "intermediate"]
    known = tables.get("table2_performance", pd.DataFrame()).get("approach", pd.Series(dtype=str)).unique()
    answer = {"help": main or alone, "alone": alone if main else [], "control": pairs[_CONTROL] if main else []}
    return answer | {"compared": gains is not None, "lacks": lacks, "approaches": list(known)}


def _sign(row):
    """+1 or -1 where the interval of a row excludes zero, after Holm's correction where the row has one."""
    if row.get("pooled_p_holm", 0) > 0.05:
        return 0
    return int(row["pooled_low"] > 0) - int(row["pooled_high"] < 0)


def _order():
    """{name of a table or figure: the notebook that saves it}, in the order of the study."""
    order = {}
    for notebook in sorted(file.stem for file in paths.NOTEBOOKS.glob("[0-9]*.ipynb")):
        calls = [node for node in ast.walk(ast.parse(parameters.source(notebook))) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: node.lineno):
            if getattr(call.func, "attr", "") in ("save_table", "save_figure"):
                order[call.args[2].value] = notebook
    return order


def _sorted(items, order):
    """The items, dicts with a name, in the order of the study; unknown ones last."""
    names = list(order)
    items = [item | {"notebook": order.get(item["name"], "")} for item in items]
    return sorted(items, key=lambda item: names.index(item["name"]) if item["name"] in order else len(names))


def _figure(file):
    """What the page shows of a figure: dict with name, caption, alt, size in pixels and formats at hand."""
    try:
        with Image.open(file) as image:
            about, size = {"Title": "", "Description": ""} | image.info, image.size
    except OSError as error:
        raise StudyError(f"{file}: no picture ({error}); delete it and run its notebook again") from error
    formats = [ending for ending in FORMATS if file.with_suffix(f".{ending}").exists()]
    alt = about["Description"] or f"Figure: {_name(file.stem)}"
    return {"name": file.stem, "caption": about["Title"], "alt": alt, "size": size, "formats": formats}


def _name(stem):
    """A heading from a file's name: table1_similarity is "Table 1: similarity"."""
    first, _, rest = stem.partition("_")
    if first.startswith("table") and first[5:].isdigit():
        return f"Table {first[5:]}: {rest.replace('_', ' ')}"
    return stem.replace("_", " ").capitalize()


def _cell(value):
    """A table's value as it is read."""
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _versions(record):
    return ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()) or "unknown"


def _convert(notebook):
    """Write the notebook as HTML beside it, unless that is already newer; return its path."""
    page = notebook.with_suffix(".html")
    if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
        from chromolib import offline  # nbconvert takes a second to import

        files.write(page, offline.html(notebook))
    return page


# ---------------------------------------------------------------------------------------------------------- publish


def publish(profile):
    """Copy what a reader needs of a profile to runs/reference/, and write its page there; the folder.

    That is tables, figures, scores, predictions, run.json and the notebooks as executed; no weights, no thumbnails.
    Predictions are packed, logits as float16 and all else as it was, and packed.json has the SHA-256 of the packed
    files. Logits of the last epoch are left out where the kept one was chosen without the reported images, as nothing
    is compared with them then; their scores stay in folds.csv. Predictions of the images that chose the epoch go along
    where notebook 7, which alone reads them, has read the run. Pictures have 256 colours. Whole or not at all: what was
    published before is replaced at the end. A profile without tables has no page.
    """
    source, target = paths.runs() / profile, paths.ROOT / "runs" / "reference" / profile
    if not files.matching(source, "*/*/*/run.json"):
        raise StudyError(f"profile {profile!r}: no finished run of it in {paths.runs()}; make study PROFILE={profile}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part.") as temporary:
        copy = Path(temporary) / profile
        cells, read = read_table(profile, "karyotype_summary"), set()
        if cells is not None:
            read = {Path(*key) for key in cells[RUN].itertuples(index=False, name=None)}
        found = [(Path(name), file) for name, file in archives.files_below(source)]
        found = [(name, file) for name, file in found if name.name != runs.MONITOR or name.parent in read]
        notebooks = [path for name, file in found if (path := _copy(name, file, copy))]
        _record_packed(copy)
        if files.matching(copy, "tables/*.csv"):  # else its runs are told in another profile's notebooks
            _write(copy, profile, sorted(path for path in notebooks if path.suffix == ".ipynb"), images=False)
        if target.exists():
            target.rename(Path(temporary) / "before")  # at once: deleting could be cut short
        copy.rename(target)
    return target


def _copy(name, file, folder):
    """Copy a file of a profile, if it is to be published; its name in the folder, or None."""
    notebook = file.suffix == ".ipynb" and len(name.parts) == 1
    if not (notebook or file.suffix in PUBLISHED) or "resume" in name.parts or name.name.startswith(files.PART):
        return None
    text = _plain(file) if notebook else ""
    if len(text.encode()) > LARGEST:
        warnings.warn(f"{file}: {len(text.encode()):,} bytes are too many, not published", stacklevel=2)
        return None
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if notebook:
        (folder / name).write_text(text, encoding="utf-8")
    elif file.suffix == ".parquet":
        table = pd.read_parquet(file)
        if runs.record(file.parent)["parameters"].get("select_on", "validation") != "validation":
            table = table.drop(columns=metrics.LAST_LOGITS, errors="ignore")
        logits = table.columns.intersection([*metrics.LOGITS, *metrics.LAST_LOGITS])
        table = table.astype(dict.fromkeys(logits, np.float16))  # as runs keep them; early ones had single precision
        encoding = {"file": "DELTA_BYTE_ARRAY"} | dict.fromkeys(logits, "BYTE_STREAM_SPLIT")
        others = list(table.columns.difference(list(encoding)))
        packing = {"compression": "brotli", "compression_level": 11, "store_schema": False, "write_statistics": False}
        table.to_parquet(folder / name, **packing, column_encoding=encoding, use_dictionary=others)
    else:
        shutil.copyfile(file, folder / name)
    return name


def _beside(file, name):
    return name if file.with_name(name).exists() else f"../../../notebooks/{name}"


def _in_few_colours(png):
    """A PNG (bytes) in 256 colours, about a third of the space, with its caption and what it says to who cannot see."""
    with Image.open(io.BytesIO(png)) as picture:
        if picture.mode == "P":  # published before
            return png
        about, packed = PngImagePlugin.PngInfo(), io.BytesIO()
        for name, text in picture.text.items():
            about.add_text(name, text)
        picture.convert("RGB").quantize(256).save(packed, "PNG", optimize=True, pnginfo=about)
    return packed.getvalue()


def few_colours(notebook):
    """Give the pictures in the outputs of a notebook 256 colours, in place."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in (data := output.get("data", {})):
            data["image/png"] = base64.b64encode(_in_few_colours(base64.b64decode(data["image/png"]))).decode()


def _record_packed(folder):
    """Write packed.json of each run: the SHA-256 of its packed files, beside run.json, which stays as it was."""
    for file in files.matching(folder, "*/*/*/run.json"):
        digests = {path.name: files.sha256(path) for path in files.matching(file.parent, "*.parquet")}
        file.with_name("packed.json").write_text(json.dumps(digests, indent=1), encoding="utf-8")


def _plain(file):
    """An executed notebook without the times and paths of its execution, its pictures in 256 colours, as text.

    Its links to notebooks that were not run on this profile lead to the project's own.
    """
    import nbformat  # takes seconds to import, and every notebook imports this module

    notebook = nbformat.read(file, as_version=4)
    few_colours(notebook)
    without_traces(notebook)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.source = re.sub(r"(?<=\]\()\d\w+\.ipynb", lambda link: _beside(file, link[0]), cell.source)
    return nbformat.writes(notebook) + "\n"


def without_traces(notebook):
    """Take the times of its execution, and what its kernel remarked, out of the cells of a notebook, in place."""
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and "IPKernelApp" in output.text:
                output.text = "".join(line for line in output.text.splitlines(True) if "IPKernelApp" not in line)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


@ends_command("report")
def main(arguments=None):
    """`write PROFILE` or `publish PROFILE`: prints where the page, or the copy, lies."""
    words, actions = sys.argv[1:] if arguments is None else arguments, {"write": write, "publish": publish}
    if len(words) != 2 or words[0] not in actions:
        sys.exit("usage: python -m chromolib.report write|publish PROFILE")
    print(actions[words[0]](words[1]))


if __name__ == "__main__":
    main()
