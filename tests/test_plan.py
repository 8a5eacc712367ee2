"""The plan against sums made by hand."""

import pandas as pd
import pytest
import torch

from chromolib import device, parameters, plan, training
from chromolib.errors import StudyError


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of one network, two tasks of 552 drawings, two approaches and folds 0 and 1 of 4."""
    original = parameters.PARAMETERS
    (tmp_path / "profile").mkdir()
    for kind in ("architecture", "approach"):
        (tmp_path / kind).symlink_to(original / kind)
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "runs"))
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


def test_starting_and_saving_are_counted(profile):
    """A run (task and approach) starts once, and its folds save once a minute, or at each epoch, and at the end."""
    (bare,) = plan.costs(profile(), SPEEDS).to_dict("records")
    (row,) = plan.costs("tiny", SPEEDS.assign(starting=60.0, saving=5.0)).to_dict("records")
    saves = min(3, (3 * 414 / 10 + 5 * 138 / 50) / 60) + 1
    assert row["hours"] - bare["hours"] == pytest.approx((4 * 60 + 8 * saves * 5) / 3600)


def test_epochs_of_so_many_steps_and_two_stages_are_counted(profile):
    (row,) = plan.costs(profile(steps_per_epoch=10, approaches=["imagenet", "imagenet_double"]), SPEEDS).to_dict(
        "records"
    )
    assert row["train_images"] == pytest.approx(2 * 2 * (3 + 6) * 10 * 32 / 1e6)  # batches of 32, by resnet34.yaml


def test_the_speed_is_that_of_the_profiles_batch_and_compilation(profile):
    rows = [{"batch_size": 32, "compiled": True, "train": 10.0}, {"batch_size": 8, "compiled": True, "train": 20.0}]
    rows += [{"batch_size": 32, "compiled": False, "train": 40.0}, {"batch_size": 8, "compiled": False, "train": 80.0}]
    table = pd.DataFrame([SPEEDS.iloc[0].to_dict() | row for row in rows])
    settings = plan.study(profile(), "resnet34")
    found = [plan._speed(settings | {"compiled": compiled}, table)["train"] for compiled in (True, False)]
    assert found == [10.0, 40.0]


def test_what_is_measured_is_the_training_itself(profile, monkeypatch):
    monkeypatch.setattr(plan, "_LEAST_SECONDS", 0.0)
    recipes, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *given: recipes.append(given[3]) or fit(*given))
    row = plan.measure(plan.study(profile(), "efficientnet_lite0"))
    assert len(recipes) == 3
    assert {recipe.batch_size for recipe in recipes} == {row["batch_size"]}
    assert {*plan._KEY, "starting", "saving", "parts"} <= row.keys()


def test_rows_of_other_batches_or_versions_are_kept_beside(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SPEEDS", tmp_path / "speeds.csv")
    row = SPEEDS.iloc[0].to_dict() | dict.fromkeys(plan._KEY, 1) | {"measured": "now"}
    for change in ({}, {}, {"batch_size": 2}, {"torch": 2}, {"layout": 2}, {"compiled": 2}, {"bfloat16": 2}):
        monkeypatch.setattr(plan, "measure", lambda _, change=change: row | change)
        plan._measured(profile(), keep=True)
    assert len(pd.read_csv(plan.SPEEDS)) == 6


def test_all_gpus_are_counted(profile, monkeypatch, capsys):
    monkeypatch.setenv("CHROMOLIB_DEVICES", "3")
    monkeypatch.setattr(plan, "_measured", lambda *_: SPEEDS.assign(device="H100", torch="2", measured="now"))
    plan.main([profile()])
    assert "with 3 side by side" in capsys.readouterr().out


@pytest.mark.fault(24)
def test_out_of_memory_is_said(profile, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for place, name in ((device, "prepare"), (plan, "_per_second")):
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="plan: out of memory"):
            patch.setattr(place, name, full)
            plan.main([profile()])


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
