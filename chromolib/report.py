"""The index page of a profile: its tables, and links to every executed notebook as HTML."""

import html
import shutil
import sys
from pathlib import Path

import pandas as pd

from chromolib import archives, files, paths, runs
from chromolib.errors import StudyError

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: 14px; display: block; overflow-x: auto }}
img {{ max-width: 100% }}
td, th {{ border-bottom: 1px solid #ccc; padding: .25rem .7rem; text-align: left; white-space: nowrap }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""


def save_table(table, profile, name):
    """Write a DataFrame to runs/<profile>/tables/<name>.csv, for the report."""
    with files.replacing(paths.runs() / profile / "tables" / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)


def save_figure(figure, profile, name):
    """Write a figure to runs/<profile>/figures/<name>.png, for the report; returns it, so that a notebook shows it."""
    with files.replacing(paths.runs() / profile / "figures" / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=110)
    return figure


def read_table(profile, name):
    """The table that `save_table` wrote, as DataFrame; None where there is none."""
    file = paths.runs() / profile / "tables" / f"{name}.csv"
    return pd.read_csv(file) if file.exists() else None


def write(profile):
    """Convert the executed notebooks of runs/<profile> to HTML, write index.html beside them and return its path."""
    folder = paths.runs() / profile
    body = [_about(profile), "<h2>Notebooks</h2><ul>"]
    for notebook in files.matching(folder, "[0-9]*.ipynb") + files.matching(folder, "*/*/*/training.ipynb"):
        page = _convert(notebook).relative_to(folder)
        name = notebook.stem if page.parent == Path() else f"03_training: {' / '.join(page.parts[:-1])}"
        body.append(f'<li><a href="{page}">{html.escape(name)}</a></li>')
    body.append("</ul>")
    for figure in files.matching(folder, "figures/*.png"):
        body.append(f'<h2>{_title(figure)}</h2><img src="figures/{figure.name}" alt="{_title(figure)}">')
    for table in files.matching(folder, "tables/*.csv"):
        content = pd.read_csv(table).to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="")
        body.append(f'<h2><a href="tables/{table.name}">{_title(table)}</a></h2>{content}')
    with files.replacing(folder / "index.html") as temporary:
        text = PAGE.format(title=f"Results of the profile {html.escape(profile)}", body="\n".join(body))
        temporary.write_text(text, encoding="utf-8")
    return folder / "index.html"


def publish(profile):
    """Copy tables, scores, predictions and run.json of a profile to runs/reference/, without weights and notebooks."""
    source, target = paths.runs() / profile, paths.ROOT / "runs" / "reference" / profile
    if not files.matching(source, "*/*/*/run.json"):  # before what was published is deleted
        raise StudyError(f"profile {profile!r}: no finished run of it in {paths.runs()}; make study PROFILE={profile}")
    found = archives.files_below(source)
    shutil.rmtree(target, ignore_errors=True)
    for name, file in found:
        if file.suffix in (".csv", ".parquet", ".json", ".png") and "resume" not in file.parts:
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return target


def _title(file):
    """A heading from a file's name: table1_similarity.csv is "Table1 similarity"."""
    return file.stem.replace("_", " ").capitalize()


def _about(profile):
    """Two sentences: what was run, on what data and hardware, and that drawn images are drawings."""
    records = [runs.record(file.parent) for file in files.matching(paths.runs() / profile, "*/*/*/run.json")]
    if not records:
        return "<p>No finished training run.</p>"
    data = sorted({f"{record['data']['name']} ({record['data']['n']} images)" for record in records})
    hardware = sorted({f"{record['hardware']['processor']}, {record['hardware']['device']}" for record in records})
    torch = sorted({record["versions"]["torch"] for record in records})
    minutes = sum(record["seconds"] for record in records) / 60
    text = (
        f"{len(records)} finished runs; data: {', '.join(data)}; hardware: {', '.join(hardware)}; "
        f"torch {', '.join(torch)}; training time {minutes:.1f} minutes in all."
    )
    if any("synthetic" in name for name in data):
        text += " The synthetic sets are drawings: they show that the study runs, and say nothing about chromosomes."
    return f"<p>{html.escape(text)}</p>"


def _convert(notebook):
    """Write the notebook as HTML beside it, unless that is already newer; return its path."""
    page = notebook.with_suffix(".html")
    if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
        from nbconvert import HTMLExporter

        text, _ = HTMLExporter().from_filename(str(notebook))
        with files.replacing(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return page


def main(arguments=None):
    """`write PROFILE` or `publish PROFILE`: prints where the page, or the copy, lies."""
    words, actions = sys.argv[1:] if arguments is None else arguments, {"write": write, "publish": publish}
    if len(words) != 2 or words[0] not in actions:
        sys.exit("usage: python -m chromolib.report write|publish PROFILE")
    try:
        print(actions[words[0]](words[1]))
    except StudyError as error:
        sys.exit(f"report: {error}")


if __name__ == "__main__":
    main()
