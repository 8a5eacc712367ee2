"""A profile against the committed one: what was changed on purpose is named, and nothing else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from chromolib import compare, metrics, paths
from chromolib.errors import StudyError

REFERENCE = paths.ROOT / "runs" / "reference"
RUN = "q_band/efficientnet_lite0/two_step"


@pytest.fixture
def copy(tmp_path):
    """The folder of a profile of one's own that is a copy of the reference, with its variations beside it."""
    for profile in REFERENCE.glob("mini*"):
        shutil.copytree(profile, tmp_path / profile.name)
    return tmp_path / "mini"


def unequal(copy):
    table = compare.compare("mini", copy.parent, REFERENCE)
    return table[table["state"] != "equal"]


def alter(file, change):
    change(pd.read_csv(file)).to_csv(file, index=False)


def record(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_copy_is_equal(copy, monkeypatch, capsys):
    assert unequal(copy).empty
    monkeypatch.setenv("CHROMOLIB_RUNS", str(copy.parent))
    with pytest.raises(SystemExit) as end:
        compare.main(["mini"])
    assert not end.value.code and " 0 different" in capsys.readouterr().out


def test_an_altered_cell_is_named(copy):
    alter(copy / "tables" / "gains.csv", lambda table: table.assign(gain=table["gain"] + 0.01))
    found = unequal(copy)
    assert set(found["state"]) == {"different"}
    assert found["where"].str.match(r"gains, row \d \([qg]_band").all()
    assert (found["mine"] - found["reference"]).to_numpy(float) == pytest.approx(0.01)


def test_tables_that_read_variations_may_differ_where_one_side_has_none(copy):
    for profile in copy.parent.glob("mini_*"):
        shutil.rmtree(profile)
    alter(copy / "tables" / "whole_cells.csv", lambda table: table[table["protocol"] == "image-wise"])
    (copy / "tables" / "validity_gains.csv").unlink()
    alter(copy / "tables" / "gains.csv", lambda table: table.assign(seeds=7))
    alter(copy / "tables" / "table2_performance.csv", lambda table: table.assign(n_folds=7))
    states = unequal(copy).groupby("state")["where"].agg(list)
    assert {where.split(",")[0] for where in states["other"]} == {"whole_cells", "validity_gains", "gains"}
    assert {where.split(",")[0] for where in states["different"]} == {"table2_performance"}


def test_a_table_that_lacks_a_row_or_is_missing(copy):
    alter(copy / "tables" / "gains.csv", lambda table: table.drop(index=0))
    (copy / "tables" / "claims.csv").unlink()
    found = unequal(copy).set_index("where")["mine"]
    rows = len(pd.read_csv(REFERENCE / "mini" / "tables" / "gains.csv"))
    assert set(found.index) == {"claims", "gains"}
    assert found["claims"] == "missing" and found["gains"].startswith(f"{rows - 1} rows ")


def test_another_seed_commit_and_data(copy):
    def change(content):
        content["parameters"]["seed"] = 7
        content["project"]["commit"] = "0" * 40
        content["data"]["digest"] = "f" * 64

    record(copy / RUN / "run.json", change)
    found = unequal(copy).set_index("where")
    assert found["state"].to_dict() == {
        f"{RUN}: seed": "different",
        f"{RUN}: commit": "other",
        f"{RUN}: digest": "different",
    }
    assert found.loc[f"{RUN}: seed", "mine"] == 7


def test_a_fold_and_a_run_that_are_missing(copy):
    shutil.rmtree(copy / "g_band/efficientnet_lite0/scratch")
    alter(copy / RUN / "folds.csv", lambda table: table.drop(index=1))
    rows = pd.read_parquet(copy / RUN / "predictions.parquet")
    rows[rows["fold"] == 0].to_parquet(copy / RUN / "predictions.parquet")
    found = unequal(copy)
    assert found["where"].str.startswith(f"{RUN}, fold 1: macro_f1").any()
    whole = found["where"].str.startswith("g_band/efficientnet_lite0/scratch")
    assert found["where"][whole].tolist() == ["g_band/efficientnet_lite0/scratch"]  # one line, not one for each score
    assert not found["where"].str.contains("q_band.*fold 0:").any()


def test_a_score_that_another_seed_would_move(copy):
    """A fold with a few answers changed is within; one answered at random is different."""
    file = copy / RUN / "predictions.parquet"
    rows = pd.read_parquet(file)
    few = rows.index[rows["fold"] == 0][:5]
    rows.loc[few, metrics.LOGITS] = 0.0
    chance = np.random.default_rng(0).normal(size=((rows["fold"] == 1).sum(), 24))
    rows.loc[rows["fold"] == 1, metrics.LOGITS] = chance.astype(np.float16)
    rows.to_parquet(file)
    states = unequal(copy).set_index("where")["state"]
    assert states[f"{RUN}, fold 0: macro_f1"] == "within"
    assert states[f"{RUN}, fold 1: macro_f1"] == "different"


def test_a_profile_that_is_not_there(tmp_path):
    with pytest.raises(StudyError, match="profile 'mini': no finished run of it in"):
        compare.compare("mini", tmp_path, REFERENCE)
