"""The reviewer's path: what is claimed, and whether the committed predictions give it again.

    python review/check.py            computes the claimed tables again from runs/reference, and says what differs
    python review/check.py gains      only what that function computes
    python review/check.py write      makes CLAIMS.md anew from the tables, parameters/claims.yaml and headlines.yaml

Exit status 1 where a number differs by more than `ROUNDING`. Rows in which the size of chromosomes enters take the
images: without them at hand (CHROMOLIB_DATA) they are counted as "not computed".
"""

import functools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from chromolib import (
    cells,
    claims,
    compare,
    karyotype,
    metrics,
    parameters,
    paths,
    protocols,
    readings,
    runs,
    second_step,
    tables,
    variations,
)
from chromolib.errors import StudyError

FOLDER = Path(__file__).parent
REFERENCE = paths.ROOT / "runs" / "reference"
ROUNDING = 0.05  # half of the last printed decimal; with the versions in constraints.txt all digits are the same
DRAWS = 10_000  # of each bootstrap, as in the notebooks
NOTEBOOK_8 = parameters.defaults("08_second_step")


def headlines():
    return yaml.safe_load((FOLDER / "headlines.yaml").read_text(encoding="utf-8"))["headlines"]


def table(entry):
    """The rows that a headline is about, as published."""
    rows = pd.read_csv(REFERENCE / entry["table"])
    return rows.query(entry["only"]) if "only" in entry else rows


def columns(entry):
    """The columns with the claimed numbers: [[value] or [value, low, high]]."""
    return [[names] if isinstance(names, str) else names for names in entry["values"].values()]


# Tables, computed again: each takes the name of a profile


def finished(profile):
    """The `runs.Results` of all that is committed of a profile, with its further seeds, and its grid."""
    scores = runs.collect(paths.runs(), f"reference/{profile}")
    grid = [list(scores[name].unique()) for name in (*tables.RUN, "fold")]
    grid[2] += NOTEBOOK_8["controls"]  # of which a further seed may have more
    return variations.with_seeds(f"reference/{profile}", [1, 2], *grid), grid


def performance(profile):
    return tables.performance(finished(profile)[0].scores)


def gains(profile):
    found = finished(profile)[0]
    pairs = pd.read_csv(REFERENCE / profile / "tables" / "gains.csv")[["baseline", "against"]].drop_duplicates()
    shared = {"draws": DRAWS, "others": found.others}
    parts = (tables.gains(found.scores, found.predictions, *pair, **shared) for pair in pairs.itertuples(index=False))
    return pd.concat(parts)


def protocol_scores(profile):
    grid = finished(profile)[1]
    varied = variations.protocols(f"reference/{profile}", *grid)
    tasks, names, _, _ = grid
    return protocols.scores(varied, tasks, names, "imagenet", DRAWS)


def answers(profile):
    """As `cells.answers`, of the networks of notebook 7's table: with sizes where the images are at hand."""
    found, data = finished(profile)[0], {}
    read = set(pd.read_csv(REFERENCE / profile / "tables" / "karyotype_summary.csv")["architecture"])
    found = found._replace(predictions={key: rows for key, rows in found.predictions.items() if key[1] in read})
    for key in found.predictions:
        try:
            data.setdefault(key[0], readings.data_of(runs.folder(f"reference/{profile}", *key)))
        except StudyError as error:
            print(f"{key[0]}: {error}; so no sizes", file=sys.stderr)
    return cells.answers(found, f"reference/{profile}", data)


def images_right(profile):
    rows = []
    for key, read in answers(profile).items():
        labels, values = metrics.arrays(read)
        guesses = {"plain": values.argmax(axis=1), "decoded": karyotype.decode(values, read["cell"])}
        right = {f"images_{name}": 100 * (guess == labels).mean() for name, guess in guesses.items()}
        rows.append(dict(zip(cells.KEY, key, strict=True)) | right)
    return pd.DataFrame(rows)


@functools.cache
def judged(profile):
    return {key: cells.judged(read) for key, read in answers(profile).items()}  # minutes


def karyotypes(profile):
    return cells.summary(judged(profile), DRAWS)


def differences(profile):
    return cells.differences(judged(profile), DRAWS)


def controls(profile):
    return second_step.comparisons(finished(profile)[0], DRAWS)


def few_cells(_):
    *fewer, whole = NOTEBOOK_8["curve_cells"]
    by_cells = {n: finished(f"curve_{n}")[0] for n in fewer} | {whole: finished("curve")[0]}
    baselines = NOTEBOOK_8["curve_baselines"]
    return pd.concat(second_step.curve(by_cells, baseline=name, draws=DRAWS) for name in baselines)


FUNCTIONS = (performance, gains, controls, few_cells, images_right, karyotypes, differences)
AGAIN = {function.__name__: function for function in FUNCTIONS}
AGAIN["protocols"] = protocol_scores


def differing(entry):
    """A headline computed again: DataFrame row, column, published, found, same; only rows that could be computed."""
    profile = entry["table"].split("/")[0]
    keys, wanted = entry["rows"], table(entry)
    both = wanted.merge(AGAIN[entry["again"]](profile), on=keys, suffixes=("", "_again"))
    rows = [
        (" ".join(map(str, row[keys])), name, row[name], row[f"{name}_again"])
        for _, row in both.iterrows()
        for name in np.concatenate(columns(entry))
    ]
    found = pd.DataFrame(rows, columns=["row", "column", "published", "found"])
    apart = (found["published"] - found["found"]).abs()
    return found.assign(same=(apart <= ROUNDING) | found[["published", "found"]].isna().all(axis=1))


def check(functions):
    """Computes what these functions compute, and prints; the number of numbers that differ."""
    wrong = 0
    for entry in headlines():
        count = len(table(entry)) * len(np.concatenate(columns(entry)))
        if not entry["again"]:
            print(f"{entry['table']}: {count} numbers are not computed here: {entry['command']}")
        elif entry["again"] in functions:
            found = differing(entry)
            apart = found[~found["same"]]
            print(f"{entry['table']}, {entry['again']}: {len(found)} of {count} numbers computed, {len(apart)} differ")
            print(apart.to_string(index=False, header=False) if len(apart) else "", end="")
            wrong += len(apart)
    return wrong


# CLAIMS.md


def rows_of(entry):
    """A headline as a table in Markdown."""
    rows = table(entry)
    digits = 3 if rows[np.concatenate(columns(entry))].abs().max(axis=None) < 1.5 else 1  # no per cent, but fractions
    yield "| " + " | ".join([*entry["rows"], *entry["values"]]) + " |"
    yield "|---" * (len(entry["rows"]) + len(entry["values"])) + "|"
    for _, row in rows.iterrows():
        words = [str(row[name]) if pd.notna(row[name]) else "–" for name in entry["rows"]]
        for names in columns(entry):
            first, *ends = ("–" if pd.isna(row[name]) else f"{row[name]:.{digits}f}" for name in names)
            words.append(first + (f" ({' to '.join(ends)})" if ends and first != "–" else ""))
        yield "| " + " | ".join(words) + " |"


def cost(profile):
    """Minutes and hardware of the trainings of a profile, from their run.json."""
    records = [runs.record(file.parent) for file in sorted((REFERENCE / profile).glob("*/*/*/run.json"))]
    minutes = sum(record["seconds"] for record in records) / 60
    machines = sorted({f"{r['hardware']['processor']}, {r['hardware']['device']}" for r in records})
    folds = sum(len(record["parameters"]["folds"]) for record in records)
    return f"{folds} trainings, {minutes:.0f} minutes of one training after the other; {'; '.join(machines)}"


def region(part):
    low, high = ("–∞" if part["holds"][0] is None else part["holds"][0]), part["holds"][1]
    return f"{part['measure']} in {low} to {'∞' if high is None else high}"


def of_the_paper():
    verdicts = pd.read_csv(REFERENCE / "evening_patient" / "tables" / "claims.csv").set_index("claim")
    yield "| | statement | the paper's numbers | confirmed where | state here | ours |"
    yield "|---|---|---|---|---|---|"
    for claim in claims.load()["claims"]:
        row = verdicts.loc[claim["claim"]].fillna("–")
        where = "; ".join(dict.fromkeys(region(part) for part in claim["parts"]))
        cell = [claim["claim"], claim["statement"], row["paper"], where, f"**{row['verdict']}**", row["ours"]]
        yield "| " + " | ".join(str(part).replace("\n", " ").strip() for part in cell) + " |"


def of_ours():
    for entry in headlines():
        again = f"`python review/check.py {entry['again']}`" if entry["again"] else entry["command"]
        yield from [f"### {entry['title']}", "", *rows_of(entry), ""]
        yield f"Again: {again}. Table: [{entry['table']}](runs/reference/{entry['table']})."
        yield ""


def page():
    """The text of CLAIMS.md."""
    text = (FOLDER / "claims.md").read_text(encoding="utf-8")
    costs = [f"| `make study PROFILE={name}` | {cost(name)} |" for name in ("evening_patient", "mini")]
    values = {"PAPER": of_the_paper(), "OURS": of_ours(), "COSTS": costs, "TOLERANCE": [f"{compare.TOLERANCE:.1f}"]}
    for name, lines in values.items():
        text = text.replace(f"@{name}@", "\n".join(lines).strip())
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        (paths.ROOT / "CLAIMS.md").write_text(page(), encoding="utf-8")
    else:
        sys.exit(bool(check(sys.argv[1:] or list(AGAIN))))
