"""What the README claims is what the committed results and the project's files say."""

import re

import pandas as pd
import pytest

from chromolib import datasets, paths

README = (paths.ROOT / "README.md").read_text()
MINI = paths.ROOT / "runs" / "reference" / "mini"


def test_the_scores_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "table2_performance.csv")
    for _, row in table.iterrows():
        assert f"{row['macro_f1_mean']:.1f} ± {row['macro_f1_sd']:.1f}" in README, tuple(row[:3])


def test_the_similarities_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "table1_similarity.csv")
    for _, row in table.iterrows():
        assert f"{row['mmd2']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in README, row["pair"]


def test_the_protocols_are_those_of_the_reference_results():
    for _, row in pd.read_csv(MINI / "tables" / "validity_protocols.csv").iterrows():
        interval = f" ({row['pooled_macro_f1_low']:.1f} to {row['pooled_macro_f1_high']:.1f})"
        assert f"{row['macro_f1']:.1f}{'' if pd.isna(row['pooled_macro_f1']) else interval} |" in README, tuple(row[:3])


def test_the_whole_cells_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "whole_cells.csv")
    for _, row in table.query("protocol == 'cell-wise' and approach == 'imagenet'").iterrows():
        assert f"from {row['accuracy']:.1f} to {row['accuracy_decoded']:.1f} %" in README
        assert (
            f"{row['accuracy_change_low']:.1f} to {row['accuracy_change_high']:.1f}; {row['better']} of {row['cells']}"
            in (README.replace("\n", " "))
        )


@pytest.mark.parametrize("name", datasets.NAMES)
def test_every_data_set_is_listed(name):
    assert f"`{name}`" in README


def test_every_link_into_the_project_leads_somewhere():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (paths.ROOT / target).exists(), target


def test_the_reference_results_stay_small():
    assert sum(path.stat().st_size for path in MINI.parent.rglob("*") if path.is_file()) < 5e6
