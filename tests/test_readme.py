"""What the README, the results and the speeds claim is what the committed results and the project's files say."""

import itertools
import re
from collections import Counter

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from chromolib import (
    architectures,
    compare,
    datasets,
    images,
    metrics,
    parameters,
    paths,
    runs,
    second_step,
    similarity,
    statistics,
    training,
)

REFERENCE = paths.ROOT / "runs" / "reference"
MINI = REFERENCE / "mini"
EVENING, CROP = (REFERENCE / profile / "tables" for profile in ("evening_patient", "evening_patient_crop"))
PAGES = [folder / "README.md" for folder in (paths.ROOT, REFERENCE, REFERENCE / "benchmarks")]
README, RESULTS, SPEEDS = (page.read_text(encoding="utf-8").replace("−", "-") for page in PAGES)
RESULTS = RESULTS.replace("\n", " ")  # a sentence may go on in the next line


def between(value, low, high, form=".1f"):
    """A number with its interval, as the pages write it."""
    return f"{value:{form}} ({low:{form.lstrip('+')}} to {high:{form.lstrip('+')}})"


LITE0 = "efficientnet_lite0"
STOP, _, INSTEAD, *_, NEGATIVES = (what for _, _, what in second_step.COMPARISONS)


def test_the_first_answer_is_that_of_the_reference_results():
    for folder in (EVENING, CROP):
        for row in pd.read_csv(folder / "second_step.csv").itertuples():
            gain = between(row.pooled_gain, row.pooled_low, row.pooled_high, "+.1f")
            assert row.what not in (STOP, INSTEAD) or gain in README, row
        for row in pd.read_csv(folder / "second_step_between_tasks.csv").query("what == @STOP").itertuples():
            assert between(row.difference, row.low, row.high, "+.1f") in README, row
    for row in variations().query("variation == 'crop'").itertuples():
        assert f"| {row.before:.1f} %: {between(row.change, row.change_low, row.change_high, '+.1f')} |" in README, row
    few = pd.read_csv(EVENING / "learning_curve.csv").query("baseline == 'imagenet_1050' and cells in (3, 6, 52)")
    for row in few.itertuples():
        assert between(row.pooled_gain, row.pooled_low, row.pooled_high, "+.1f") in README, row
    cells = pd.read_csv(EVENING / "karyotype_summary.csv").query("architecture == @LITE0 and way == 'network'")
    whole = cells.pivot(index="approach", columns="task", values="whole").round().astype(int)
    (q, g), (q_stop, g_stop), (q_long, g_long) = (
        whole.loc[name, ["q_band", "g_band"]] for name in ("imagenet", "two_step", "imagenet_double")
    )
    told = f"{q} % of Q-band and {g} % of G-band, with the stop {q_stop} and {g_stop} %, with as much longer training"
    assert f"{told} {q_long} and {g_long} %" in README
    best = pd.read_csv(REFERENCE / "accuracy_crop" / "tables" / "karyotype_summary.csv").set_index("way")
    for way, name in (("network", "images_plain"), ("network and size", "images_decoded")):
        value, low, high = best.loc[way, [name, f"{name}_low", f"{name}_high"]]
        assert f"{value:.1f} % ({low:.1f} to {high:.1f})" in README, way
    calls = pd.read_csv(REFERENCE / "karyotype" / "tables" / "karyotype_summary.csv")
    row = calls.set_index(["approach", "way"]).loc["imagenet", "network and size"]
    assert f"{row['named']:.0f} % ({row['named_low']:.0f} to {row['named_high']:.0f})" in README
    assert f"{row['aneuploid_named']} of {row['aneuploid']} aneuploid" in README
    assert row["false_alarms"] == 0 and f"none of {row['normal']}" in README
    changes = pd.read_csv(REFERENCE / "karyotype" / "tables" / "karyotype_differences.csv")
    stop = (changes["to"] == "two_step, network and size") & changes["from"].str.startswith("imagenet")
    (row,) = changes[stop & (changes["what"] == "named")].itertuples()
    assert f"{row.change:+.1f} points, {row.change_low:.1f} to {row.change_high:.1f}; one seed" in README


def variations(profile="evening_patient"):
    table = pd.read_csv(REFERENCE / profile / "tables" / "second_step_variations.csv")
    return table[table["change"].notna()]


def test_the_scores_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "table2_performance.csv")
    for _, row in table.iterrows():
        assert f"{row['macro_f1_mean']:.1f} ± {row['macro_f1_sd']:.1f}" in RESULTS, tuple(row[:3])


def test_the_similarities_are_those_of_the_reference_results():
    table = pd.concat(pd.read_csv(folder / "table1_similarity.csv") for folder in (EVENING, CROP))
    for _, row in table.iterrows():
        assert between(row["mmd2"], row["low"], row["high"], ".3f") in RESULTS, row["pair"]
        assert between(*1e5 * row[["coral", "coral_low", "coral_high"]].astype(float)) in RESULTS, row["pair"]


def test_size_and_second_step_are_those_of_the_reference_results():
    summary = pd.read_csv(EVENING / "karyotype_summary.csv").set_index(["architecture", "approach", "way"])
    for key, rows in summary.groupby(level=[0, 1, 2]):
        cells = [
            f"{r.images_plain:.1f} | {r.images_decoded:.1f} | {r.whole:.0f} | {r.named:.0f}" for r in rows.itertuples()
        ]
        assert sorted(rows["task"]) == ["g_band", "q_band"] and " | ".join(cells) in RESULTS, key
    changes = pd.read_csv(EVENING / "karyotype_differences.csv").query("architecture == @LITE0")
    wanted = changes["what"].isin(["plain", "decoded"]) & ~changes["from"].str.startswith("two_step")
    for row in changes[wanted].itertuples():
        assert between(row.change, row.change_low, row.change_high, "+.1f") in RESULTS, row


def test_chromosomes_shown_otherwise_are_those_of_the_reference_results():
    longer = ("accuracy", "accuracy_crop", "accuracy_crop_both", "accuracy_long")
    for profile in (*(f"evening_patient_{way}" for way in ("both", "canvas", "crop")), *longer):
        for row in pd.read_csv(REFERENCE / profile / "tables" / "karyotype_summary.csv").to_dict("records"):
            cells = [
                between(*(row[name + end] for end in ("", "_low", "_high")), form)
                for name, form in (
                    ("images_plain", ".1f"),
                    ("images_decoded", ".1f"),
                    ("whole", ".0f"),
                    ("named", ".0f"),
                )
            ]
            assert f"| {' | '.join(cells)} |" in RESULTS, (profile, row["task"], row["approach"], row["way"])
    for row in (*variations().itertuples(), *variations("evening_patient_256").itertuples()):
        change = between(row.change, row.change_low, row.change_high, "+.1f")
        assert f"{row.before:.1f} %: {change}" in RESULTS, row
        assert pd.isna(row.gain) or between(row.gain, row.low, row.high, "+.1f") in RESULTS, row


def test_size_as_a_channel_beside_the_crop_is_that_of_the_predictions():
    runs_of = (REFERENCE / name / "q_band" / LITE0 / "imagenet" for name in ("accuracy_crop", "accuracy_crop_both"))
    crop, both = map(runs.predictions, runs_of)
    change = statistics.paired_bootstrap(both, crop, "macro_f1", "cell")
    assert f"{between(*(100 * value for value in change[:3]), '+.1f')} after 3,000" in RESULTS


def test_a_network_from_scratch_is_that_of_the_reference_results():
    path = REFERENCE / "from_scratch" / "g_band" / "resnet34" / "scratch"
    score = statistics.score_interval(runs.predictions(path), "macro_f1", "patient")
    estimate, low, high = (100 * value for value in score[:3])
    assert f"{estimate:.1f} % Macro-F1 ({low:.1f} to {high:.1f}, whole patients drawn" in RESULTS
    fold = pd.read_csv(path / "folds.csv").iloc[0]
    assert f"the {fold['best_epoch']:.0f}th" in RESULTS and f"the last {100 * fold['last_macro_f1']:.1f} %" in RESULTS


def test_small_chromosomes_lose_most_at_one_scale_for_the_cell():
    for profile, scores in {"evening_patient": (83, 86), "evening_patient_canvas": (85, 43)}.items():
        rows = runs.predictions(REFERENCE / profile / "g_band" / "efficientnet_lite0" / "imagenet")
        labels, logits = metrics.arrays(rows)
        f1 = 100 * f1_score(labels, logits.argmax(axis=1), average=None)
        assert (round(f1[0]), round(f1[15])) == scores
    assert "chromosome 1 goes from 83 to 85 %, of 16 from 86 to 43 %" in RESULTS


def test_karyotypes_are_those_of_the_reference_results():
    table = pd.read_csv(REFERENCE / "karyotype" / "tables" / "karyotype_summary.csv")
    for row in table.to_dict("records"):
        shares = [
            between(*(row[name + end] for end in ("", "_low", "_high")), form)
            for name, form in (("images_plain", ".1f"), ("images_decoded", ".1f"), ("whole", ".0f"), ("named", ".0f"))
        ]
        seen, alarms = ((row[f"named_{kind}_low"], row[f"named_{kind}_high"]) for kind in ("aneuploid", "normal"))
        shares.append(f"{row['aneuploid_named']} of {row['aneuploid']} ({seen[0]:.0f} to {seen[1]:.0f} %)")
        alarms = f"{100 - alarms[1]:.1f} to {100 - alarms[0]:.1f} %"
        shares.append(f"{row['false_alarms']} of {row['normal']} ({alarms})")
        assert f"| {' | '.join(shares)} |" in RESULTS, (row["approach"], row["way"])
    changes = pd.read_csv(REFERENCE / "karyotype" / "tables" / "karyotype_differences.csv")
    for row in changes[changes["to"].str.startswith("two_step") & changes["from"].str.startswith("imag")].itertuples():
        if row.what != "decoded":
            ends = f"{row.change_low:.1f} to {row.change_high:.1f}"
            assert f"{row.change:+.1f} ({ends})" in RESULTS or f"{row.change:+.1f} points ({ends}" in RESULTS, row
    search = pd.read_csv(REFERENCE / "karyotype" / "tables" / "karyotype_search.csv")
    for row in search[search["by"] == "odds"].itertuples():
        found = f"{row.sensitivity:.0f} % ({row.sensitivity_low:.0f} to {row.sensitivity_high:.0f})"
        assert f"{found} at {row.wanted_specificity:.0f} %" in RESULTS, row


def test_training_speeds_are_those_of_the_reference_results():
    table = pd.read_csv(REFERENCE / "benchmarks" / "training.csv").set_index(["what", "against"])
    ratios, shares = (table.xs(against, level="against")["ratio"] for against in ("tuned loop", "bare step"))
    for what in ratios.index:
        assert re.search(rf"\| {what} \|.*\| {ratios[what]:.2f} \| {100 * shares[what]:.0f} % \|", SPEEDS), what
    assert f"{ratios.min():.2f} to {ratios.max():.2f} times" in README
    assert f"{100 * shares.min():.0f} to {100 * shares.max():.0f} %" in README


def test_the_speeds_on_a_gpu_are_those_of_the_reference_results():
    grid = pd.read_csv(REFERENCE / "benchmarks" / "gpu" / "grid.csv")
    for page in (README, SPEEDS):
        assert f"{5 * len(grid)} small networks" in page and f"in {grid['finished_after_s'].max() / 60:.0f} min" in page
    table = pd.read_csv(REFERENCE / "benchmarks" / "gpu" / "speed.csv")
    table["network"] = table["key"].str.split(",").str[0]
    bare = table[table["key"].str.endswith("bare step")].set_index("network")["images_per_second"]
    for row in table[table["key"].str.contains("eager")].itertuples():
        title, limit = architectures.TABLE[row.network].title, bare.get(row.network)
        beside = "not run | –" if limit is None else f"{limit:,.0f} | {100 * row.images_per_second / limit:.0f} %"
        cells = f"| {title} | {row.images_per_second:,.0f} | {beside} | {row.starting:.0f} s | {row.memory_gib:.1f} |"
        assert cells in SPEEDS, row.key
    checks = pd.read_csv(REFERENCE / "benchmarks" / "gpu" / "correctness.csv")
    assert checks[~checks["right"]]["key"].tolist() == ["vit_small: out of memory"] and "Not decided" in SPEEDS


def test_the_other_speeds_are_those_of_the_reference_results():
    for name, what, against in (
        ("similarity", "time of MMD²", "re-indexing"),
        ("bootstrap", "paired bootstrap over cells", "SciPy and scikit-learn"),
    ):
        table = pd.read_csv(REFERENCE / "benchmarks" / f"{name}.csv").set_index(["what", "against"])
        ratio = f"{table.loc[(what, against), 'ratio']:.0f}"
        assert f"| {ratio} |" in SPEEDS and f"1/{ratio}" in README, name


def test_the_second_step_beside_its_controls_is_that_of_the_reference_results():
    tables = [pd.read_csv(folder / "second_step.csv") for folder in (EVENING, CROP)]
    assert [len(table) for table in tables] == [22, 12]  # what Holm's p is over
    for row in pd.concat(tables).itertuples():
        assert f"| {between(row.pooled_gain, row.pooled_low, row.pooled_high, '+.1f')} |" in RESULTS, row
        p = f"{row.pooled_p_holm:.4f}" if row.pooled_p_holm >= 5e-5 else "< 0.0001"
        assert f"| {row.t_low:.1f} to {row.t_high:.1f} |" in RESULTS and p in RESULTS, row
    between_tasks = pd.concat(pd.read_csv(folder / "second_step_between_tasks.csv") for folder in (EVENING, CROP))
    for row in between_tasks[between_tasks["against"] == "two_step"].itertuples():
        assert f"{row.difference:+.1f}" in RESULTS and f"{row.low:.1f} to {row.high:.1f})" in RESULTS, row
    contrasts = pd.read_csv(EVENING / "second_step_between_tasks.csv").query("what in [@STOP, @INSTEAD]")
    second, *instead = (f"{p:.3f}" for p in contrasts["p_holm"][1:])
    assert f"{second})" in RESULTS and f"Holm p {' and '.join(instead)})" in RESULTS
    for row in tables[0][tables[0]["what"] == NEGATIVES].itertuples():  # told the other way round
        assert between(-row.pooled_gain, -row.pooled_high, -row.pooled_low, "+.1f") in RESULTS, row
    for row in pd.read_csv(EVENING / "zero_shot.csv").itertuples():
        assert f"{row.macro_f1:.1f}" in RESULTS, row


def test_few_cells_are_those_of_the_reference_results():
    table = pd.read_csv(EVENING / "learning_curve.csv")
    assert table.query("baseline == 'imagenet'")["cells"].tolist() == [3, 6, 13, 26, 52]
    for row in table.itertuples():
        assert f"| {between(row.pooled_gain, row.pooled_low, row.pooled_high, '+.1f')} |" in RESULTS, row
        assert f"| {row.before:.1f} |" in RESULTS and f"| {row.after:.1f} |" in RESULTS, row


def test_how_much_a_seed_moves_is_what_the_runs_of_several_seeds_say():
    """The SD over seeds of a training on the same fold: of each recipe, and over all of them."""
    rows = []
    for base in ("evening_patient", "evening_patient_crop"):
        for file in REFERENCE.glob(f"{base}*/*/*/*/folds.csv"):
            profile, *recipe = file.parts[-5:-1]
            if re.fullmatch(rf"{base}(_seed\d)?", profile):
                rows.append(pd.read_csv(file)[["fold", "macro_f1"]].assign(recipe=" ".join([base, *recipe])))
    spread = pd.concat(rows).groupby(["recipe", "fold"])["macro_f1"].agg(["var", "count"]).query("count > 1")
    spread["freedom"] = spread["count"] - 1
    spread["squares"] = spread["var"] * spread["freedom"]
    recipes = 100 * np.sqrt(spread["squares"].groupby("recipe").sum() / spread["freedom"].groupby("recipe").sum())
    overall = 100 * np.sqrt(spread["squares"].sum() / spread["freedom"].sum())
    assert round(overall, 1) == compare.TRAINING_SD
    words = (
        f"{overall:.1f} points over all {len(recipes)} recipes, {recipes.min():.1f} to {recipes.max():.1f} by recipe"
    )
    assert words in RESULTS
    scores = pd.concat(rows).groupby(["recipe", "fold"])["macro_f1"].apply(list)
    apart = pd.DataFrame(
        [
            (recipe, 100 * abs(one - other) > compare.TOLERANCE)
            for (recipe, _), found in scores.items()
            for one, other in itertools.combinations(found, 2)
        ],
        columns=["recipe", "far"],
    )
    worst = apart[apart["recipe"] == recipes.idxmax()]["far"]
    assert f"Of all {len(apart)} pairs {apart['far'].sum()} are farther apart" in RESULTS
    assert f"of that recipe {worst.sum()} of {len(worst)}" in RESULTS


def test_the_protocols_are_those_of_the_reference_results():
    for _, row in pd.read_csv(MINI / "tables" / "validity_protocols.csv").iterrows():
        interval = f" ({row['pooled_macro_f1_low']:.1f} to {row['pooled_macro_f1_high']:.1f})"
        assert f"{row['macro_f1']:.1f}{'' if pd.isna(row['pooled_macro_f1']) else interval} |" in RESULTS, tuple(
            row[:3]
        )


def test_the_whole_cells_are_those_of_the_reference_results():
    table = pd.read_csv(MINI / "tables" / "whole_cells.csv")
    for _, row in table.query("protocol == 'cell-wise' and approach == 'imagenet'").iterrows():
        assert f"from {row['accuracy']:.1f} to {row['accuracy_decoded']:.1f} %" in RESULTS
        ends = f"{row['accuracy_change_low']:.1f} to {row['accuracy_change_high']:.1f}"
        assert f"{ends}; {row['better']} of {row['cells']}" in RESULTS


def test_the_coverages_are_those_of_the_simulations():
    found = pd.read_csv(REFERENCE / "coverage" / "coverage.csv").query("fold_correlation < 0.5")
    for name, words in (("percentile bootstrap", "the paper's, a bootstrap"), ("corrected resampled t", "corrected")):
        shares = 100 * found[found["interval"].str.startswith(name)]["covers"]
        assert re.search(rf"\| {words}[^|]*\| {shares.iloc[0]:.0f} % \| {shares.iloc[1]:.0f} % \|", RESULTS), name
    seeds = pd.read_csv(REFERENCE / "coverage" / "coverage_seeds.csv").query("fold_correlation == 0")
    together = seeds[seeds["interval"] == "trainings and cells"].set_index("seeds")["covers"]
    for number, words in ((2, "two seeds"), (3, "three seeds")):
        shares = [f"{100 * share:.0f} %" for share in together[number]]
        assert f"together, {words} | {' | '.join(shares)} |" in RESULTS, words


def test_what_was_run_is_what_the_runs_recorded():
    """Trainings by profile and commit; of one profile some may be from another commit, on another machine."""
    rows = re.findall(r"\| `(\w+)`[^|]* \| (\d+) \| [\d,]+ \| [^|]+ \| (\w{7}) \|", RESULTS)
    assert len(rows) == 49
    counted = Counter()
    for profile in {profile for profile, *_ in rows}:
        for record in [runs.record(file.parent) for file in REFERENCE.glob(f"{profile}/*/*/*/run.json")]:
            counted[profile, record["project"]["commit"][:7]] += len(record["parameters"]["folds"])
    assert counted == {(profile, commit): int(trainings) for profile, trainings, commit in rows}


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


def anchors(page):
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_every_link_into_the_project_leads_somewhere():
    shown = [*paths.ROOT.glob("notebooks/*.ipynb"), *REFERENCE.glob("*/*.ipynb"), *paths.ROOT.glob("lesson/*.ipynb")]
    for page in [*PAGES, *shown]:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            text = "\n".join(cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "markdown")
        for target, _, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(#([\w-]+))?\)", text):
            there = page.parent / target if target else page
            assert there.exists(), (page, target)
            assert not anchor or anchor in anchors(there), (page, target, anchor)


def test_the_reference_results_stay_small():
    """What is committed of them; beside it lie the vector figures of a notebook that was run."""
    found = [path for path in REFERENCE.rglob("*") if path.is_file() and path.suffix not in (".svg", ".pdf")]
    assert sum(path.stat().st_size for path in found) < 40e6
