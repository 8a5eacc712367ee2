"""The plan against sums made by hand."""

import pandas as pd
import pytest

from chromolib import parameters, plan
from chromolib.errors import StudyError


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of one network, two tasks of 552 drawings, two approaches and folds 0 and 1 of 4."""
    original = parameters.PARAMETERS
    (tmp_path / "profile").mkdir()
    (tmp_path / "architecture").symlink_to(original / "architecture")
    monkeypatch.setattr(parameters, "PARAMETERS", tmp_path)

    def write(**more):
        values = {"architectures": ["resnet34"], "approaches": ["scratch", "imagenet"], "tasks": ["q_band", "g_band"]}
        values |= {"folds": [0, 1], "n_folds": 4, "image_size": 32, "adam_epochs": 2, "sgd_epochs": 1} | more
        text = "\n".join(f"{name}: {value}" for name, value in values.items())
        (tmp_path / "profile" / "tiny.yaml").write_text(text)
        return "tiny"

    return write


SPEEDS = pd.DataFrame([{"architecture": "resnet34", "image_size": 32, "train": 10.0, "predict": 50.0}])


def test_hours_and_disk_are_those_counted_by_hand(profile):
    (row,) = plan.costs(profile(), SPEEDS).to_dict("records")
    assert row["trainings"] == 2 * 2 * 2
    trained, validated = 8 * 3 * 414, 8 * (3 + 2) * 138  # 552 images: 414 train, 138 are validated
    assert row["train_images"] == pytest.approx(trained / 1e6)
    assert row["hours"] == pytest.approx((trained / 10 + validated / 50) / 3600)
    weights = 4 * 21_296_984  # parameters with 24 classes, in float32
    assert row["disk_gb"] == pytest.approx((8 * weights + 8 * 138 * 200) / 1e9)
    assert row["state_gb"] == pytest.approx(4 * weights / 1e9)


def test_an_inner_split_trains_on_a_fifth_less(profile):
    (row,) = plan.costs(profile(select_on="inner"), SPEEDS).to_dict("records")
    trained, predicted = 8 * 3 * 414 * 4 / 5, 8 * (3 * 414 / 5 + 2 * 138)
    assert row["hours"] == pytest.approx((trained / 10 + predicted / 50) / 3600)


def test_the_paper_trains_330_networks():
    names = parameters.load(parameters.path("profile", "paper"))["architectures"]
    speeds = pd.DataFrame([SPEEDS.iloc[0].to_dict() | {"architecture": name, "image_size": 256} for name in names])
    table = plan.costs("paper", speeds)
    assert table["trainings"].sum() == 330
    assert table["train_images"].sum() == pytest.approx(330 / 2 * 80 * 0.8 * (5474 + 2986) / 1e6)


def test_a_speed_that_is_missing_is_named(profile):
    with pytest.raises(StudyError, match="resnet34 at 32 px: no speed"):
        plan.costs(profile(), SPEEDS.assign(image_size=64))


def test_speeds_are_measured_printed_and_kept(profile, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "SPEEDS", tmp_path / "speeds.csv")
    monkeypatch.setattr(plan, "_LEAST_SECONDS", 0.0)
    plan.main([profile(architectures=["efficientnet_lite0"]), "--keep"])
    plan.main(["tiny", "--keep"])  # replaces the row
    kept = pd.read_csv(plan.SPEEDS)
    assert len(kept) == 1
    assert kept.iloc[0][["train", "predict"]].min() > 0
    assert "In all 8 trainings" in capsys.readouterr().out
    plan.main(["tiny", "--device", kept.loc[0, "device"]])
    assert "1 speeds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'abacus': not in"):
        plan.main(["tiny", "--device", "abacus"])
