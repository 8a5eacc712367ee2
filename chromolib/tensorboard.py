"""Learning curves for TensorBoard: python -m chromolib tensorboard PROFILE. Needs the package tensorboard besides."""

import importlib.util
import sys

import pandas as pd

from chromolib import files, paths
from chromolib.errors import StudyError


def main(arguments=None):
    """Write history.csv of each run of a profile as events, a curve a fold, and say how to look at them."""
    if importlib.util.find_spec("tensorboard") is None:
        raise StudyError("the package tensorboard is not installed: python -m pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    profile = " ".join(sys.argv[1:] if arguments is None else arguments)
    root = paths.runs() / profile
    histories = files.matching(root, "*/*/*/history.csv")
    if not histories:
        raise StudyError(f"profile {profile!r}: no run of it in {paths.runs()}; name one that has")
    for file in histories:
        for fold, rows in pd.read_csv(file).groupby("fold"):
            with SummaryWriter(root / "tensorboard" / file.parent.relative_to(root) / f"fold{fold}") as writer:
                for row in rows.drop(columns="fold").to_dict("records"):
                    epoch = row.pop("epoch")
                    for name, value in row.items():
                        writer.add_scalar(name, value, epoch)
    print(f"tensorboard --logdir {root / 'tensorboard'}")
