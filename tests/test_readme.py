"""What the README claims is what the committed results and the project's files say."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from chromolib import architectures, datasets, images, parameters, paths, runs, similarity, training

README = (paths.ROOT / "README.md").read_text().replace("−", "-")
MINI = paths.ROOT / "runs" / "reference" / "mini"
EVENING = MINI.parent / "evening_patient" / "tables"


def test_the_scores_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "table2_performance.csv")
    for _, row in table.iterrows():
        assert f"{row['macro_f1_mean']:.1f} ± {row['macro_f1_sd']:.1f}" in README, tuple(row[:3])


def test_the_similarities_are_those_of_the_reference_results():
    table = pd.read_csv(EVENING / "table1_similarity.csv")
    for _, row in table.iterrows():
        assert f"{row['mmd2']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in README, row["pair"]
        coral = 1e5 * row[["coral", "coral_low", "coral_high"]].astype(float)
        assert "{:.1f} ({:.1f} to {:.1f})".format(*coral) in README, row["pair"]


def test_size_and_second_step_are_those_of_the_reference_results():
    summary = pd.read_csv(EVENING / "karyotype_summary.csv").set_index(["approach", "way"])
    for key, rows in summary.groupby(level=[0, 1]):
        cells = [
            f"{r.images_plain:.1f} | {r.images_decoded:.1f} | {r.whole:.0f} | {r.named:.0f}" for r in rows.itertuples()
        ]
        assert sorted(rows["task"]) == ["g_band", "q_band"] and " | ".join(cells) in README, key
    changes = pd.read_csv(EVENING / "karyotype_differences.csv")
    wanted = changes["what"].isin(["plain", "decoded"]) & ~changes["from"].str.startswith("two_step")
    for row in changes[wanted].itertuples():
        assert f"{row.change:+.1f} ({row.change_low:.1f} to {row.change_high:.1f})" in README, row


def test_size_as_a_channel_is_that_of_the_reference_results():
    for profile in ("evening_patient_both", "evening_patient_crop", "accuracy", "accuracy_crop"):
        for row in pd.read_csv(MINI.parent / profile / "tables" / "karyotype_summary.csv").to_dict("records"):
            images = [
                "{:.1f} ({:.1f} to {:.1f})".format(*(row[f"images_{name}{end}"] for end in ("", "_low", "_high")))
                for name in ("plain", "decoded")
            ]
            cells = [
                "{:.0f} ({:.0f} to {:.0f})".format(*(row[name + end] for end in ("", "_low", "_high")))
                for name in ("whole", "named")
            ]
            assert f"| {' | '.join(images + cells)} |" in README, (profile, row["task"], row["approach"], row["way"])
    others = pd.read_csv(EVENING / "second_step_variations.csv")
    for row in others[others["change"].notna()].itertuples():
        assert f"{row.before:.1f} %" in README
        for value, low, high in ((row.change, row.change_low, row.change_high), (row.gain, row.low, row.high)):
            assert pd.isna(value) or f"{value:+.1f} ({low:.1f} to {high:.1f})" in README, row


def test_karyotypes_are_those_of_the_reference_results():
    table = pd.read_csv(MINI.parent / "karyotype" / "tables" / "karyotype_summary.csv")
    for row in table.to_dict("records"):
        shares = [
            f"{row[name]:.{digits}f} ({row[f'{name}_low']:.{digits}f} to {row[f'{name}_high']:.{digits}f})"
            for name, digits in (("images_plain", 1), ("images_decoded", 1), ("whole", 0), ("named", 0))
        ]
        seen, alarms = ((row[f"named_{kind}_low"], row[f"named_{kind}_high"]) for kind in ("aneuploid", "normal"))
        shares.append(f"{row['aneuploid_named']} of {row['aneuploid']} ({seen[0]:.0f} to {seen[1]:.0f} %)")
        alarms = f"{100 - alarms[1]:.1f} to {100 - alarms[0]:.1f} %"
        shares.append(f"{row['false_alarms']} of {row['normal']} ({alarms})")
        assert f"| {' | '.join(shares)} |" in README, (row["approach"], row["way"])
    search = pd.read_csv(MINI.parent / "karyotype" / "tables" / "karyotype_search.csv")
    for row in search[search["by"] == "odds"].itertuples():
        found = f"{row.sensitivity:.0f} % ({row.sensitivity_low:.0f} to {row.sensitivity_high:.0f})"
        assert f"{found} at {row.wanted_specificity:.0f} %" in README.replace("\n", " "), row


def test_training_speeds_are_those_of_the_reference_results():
    table = pd.read_csv(MINI.parent / "benchmarks" / "training.csv").set_index(["what", "against"])
    for what in table.index.unique("what"):
        ratio, share = (table.loc[(what, against), "ratio"] for against in ("tuned loop", "bare step"))
        assert re.search(rf"\| {what} \|.*\| {ratio:.2f} \| {100 * share:.0f} % \|", README), what


def test_the_second_step_beside_its_controls_is_that_of_the_reference_results():
    table = pd.read_csv(EVENING / "second_step.csv")
    assert len(table) == 6  # what Holm's p is over
    for row in table.itertuples():
        assert f"| {row.pooled_gain:+.1f} ({row.pooled_low:.1f} to {row.pooled_high:.1f}) |" in README, row
        assert f"| {row.t_low:.1f} to {row.t_high:.1f} |" in README and f"{row.pooled_p_holm:.4f}" in README, row
    for row in table[table["what"] == "the stop, and the longer training"].itertuples():
        assert f"+{row.pooled_gain:.1f} points, {row.pooled_low:.1f} to {row.pooled_high:.1f}" in README, row
    for row in table[table["what"] == "the stop instead of longer training"].itertuples():
        assert f"{-row.pooled_gain:.1f}" in README and f"({-row.pooled_high:.1f} to {-row.pooled_low:.1f})" in README
    for row in pd.read_csv(EVENING / "table2_performance.csv").itertuples():
        assert f"{row.macro_f1_mean:.1f}" in README, row
    between = pd.read_csv(EVENING / "second_step_between_tasks.csv")
    for row in between[between["against"] == "two_step"].itertuples():
        assert f"{row.difference:+.1f}" in README and f"{row.low:.1f} to {row.high:.1f})" in README, row
    for row in pd.read_csv(EVENING / "zero_shot.csv").itertuples():
        assert f"{row.macro_f1:.1f}" in README, row


def test_few_cells_are_those_of_the_reference_results():
    table = pd.read_csv(EVENING / "learning_curve.csv")
    assert table[["baseline", "cells"]].to_numpy().tolist() == [
        [baseline, cells] for baseline in ("imagenet", "imagenet_double") for cells in (3, 52)
    ]
    for row in table.itertuples():
        sign = 1 if row.pooled_gain > 0 else -1  # of longer training at home the README says how much more it gives
        low, high = sorted((sign * row.pooled_low, sign * row.pooled_high))
        assert re.search(rf"{sign * row.pooled_gain:.1f}( points| more)?,?\s+\({low:.1f} to {high:.1f}\)", README), row
    scores = runs.collect(MINI.parent, "curve_3").groupby("approach")["macro_f1"].mean()
    for approach, score in scores.items():
        assert f"{100 * score:.1f} %" in README, approach


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


def deviation(name):
    """What the table of deviations says of a choice."""
    return re.search(rf"^\| {name} \| (.*) \|", README, re.MULTILINE)[1]


def test_the_deviations_are_those_of_the_code():
    values = parameters.defaults("03_training")
    assert parameters.load(parameters.path("approach", "two_step"))["keep_head"] is True
    assert parameters.load(parameters.path("approach", "two_step_new_head"))["keep_head"] is False
    assert "is kept" in deviation("head of the second step")
    assert parameters.load(parameters.path("approach", "two_step"))["parent"] == "imagenet"
    assert "of fold k of the `imagenet` run" in deviation("fold of the parent")
    assert values["steps_per_epoch"] == 0
    for whole in (5474, 2986):
        assert f"{round(whole * 4 / 5):,} " in deviation("unequal intermediates")
    assert f"of {0.1 * values['blur_sigma']:g} to {values['blur_sigma']:g} pixels" in deviation("blur's strength")
    assert f"to {100 * training._cosine(1):g} % of it" in deviation("cosine schedule")
    assert values["precision"] == "auto" and "scored* in bf16" in deviation("bf16 scoring")


def test_features_of_convnext_are_normalised_as_the_table_says():
    """A fresh LayerNorm leaves each image's features with mean 0 and variance 1; plain pooling does not."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8)
    features = similarity.embed(noise, "convnext_tiny", weights=None)
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(features.var(axis=1), 1, atol=1e-2)
    assert "LayerNorm" in deviation("pooled features")


def test_photographs_are_cut_and_grey_as_the_table_says():
    picture = np.zeros((4, 8), np.uint8)
    picture[:, 2:6] = 200
    assert (images.centre(picture, 4) == 200).all() and "central square" in deviation("centre crop")
    pixels = architectures.normalise(torch.full((1, 2, 2), 255, dtype=torch.uint8), "efficientnet_lite0")
    assert pixels.tolist() == torch.ones(1, 3, 2, 2).tolist() and "repeated three times" in deviation(
        "grey photographs"
    )


def test_every_link_into_the_project_leads_somewhere():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (paths.ROOT / target).exists(), target


def test_the_reference_results_stay_small():
    assert sum(path.stat().st_size for path in MINI.parent.rglob("*") if path.is_file()) < 40e6
