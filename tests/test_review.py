"""The reviewer's path: CLAIMS.md is what the tables say, and the committed predictions give the tables again."""

import importlib
import sys

import pandas as pd
import pytest
import yaml

from chromolib import claims, paths, runs

REVIEW = paths.ROOT / "review"
sys.path.insert(0, str(REVIEW))
check = importlib.import_module("check")
ENTRIES = check.headlines()
QUICK = (
    "performance",
    "gains",
    "controls",
    "few_cells",
    "images_right",
    "protocols",
)  # the karyotypes of all cells take minutes


@pytest.fixture(scope="module", autouse=True)
def no_images(tmp_path_factory):
    """Whatever lies on this machine: the path begins without data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHROMOLIB_DATA", str(tmp_path_factory.mktemp("empty")))
        patch.delenv("CHROMOLIB_RUNS", raising=False)
        yield


def test_the_page_is_made_of_todays_tables():
    text = (paths.ROOT / "CLAIMS.md").read_text(encoding="utf-8")
    assert text == check.page(), "run python review/check.py write"


def test_the_page_has_every_statement_and_the_state_of_its_judge():
    text = (paths.ROOT / "CLAIMS.md").read_text(encoding="utf-8").split("## What the paper says")[1]
    verdicts = pd.read_csv(check.REFERENCE / "evening_patient" / "tables" / "claims.csv").set_index("claim")["verdict"]
    for claim in claims.load()["claims"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| {claim['claim']} | "))
        assert claim["statement"].strip() in row and f"**{verdicts[claim['claim']]}**" in row


@pytest.mark.parametrize("profile", ["evening_patient", "mini"])
def test_the_reference_is_whole(profile):
    states = runs.verify(paths.ROOT / "runs", f"reference/{profile}")["state"]
    assert states.isin(runs.FINE).all()


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e["again"] in QUICK], ids=lambda e: e["title"])
def test_the_committed_predictions_give_the_table_again(entry):
    found = check.differing(entry)
    assert len(found) and found["same"].all(), found[~found["same"]].to_string()


def test_a_number_that_was_altered_is_found(monkeypatch, capsys):
    published = check.table

    def altered(entry):
        rows = published(entry).copy()
        if "macro_f1_mean" in rows:
            rows.loc[rows.index[0], "macro_f1_mean"] += 0.1
        return rows

    monkeypatch.setattr(check, "table", altered)
    assert check.check(["performance"]) == 2  # one in either profile
    assert capsys.readouterr().out.count("macro_f1_mean") == 2


def test_every_headline_can_be_computed_or_says_what_it_takes():
    for entry in ENTRIES:
        assert (entry["again"] in check.AGAIN) != bool(entry.get("command")), entry["title"]
        assert len(check.table(entry)), entry["title"]


def test_the_manifest_lists_what_is_there_and_leaves_the_checker_open():
    content = yaml.safe_load((paths.ROOT / "codecheck.yml").read_text(encoding="utf-8"))
    files = [row["file"] for row in content["manifest"]]
    assert all((paths.ROOT / file).is_file() for file in files)
    assert {f"runs/reference/{entry['table']}" for entry in ENTRIES} <= set(files)
    assert content["version"].startswith("https://codecheck.org.uk/spec/config/")
    assert not content["codechecker"]
