"""The same training under stricter protocols and with other seeds: profiles that lie beside another one.

A profile such as mini has variations beside it, mini_cell (folds by cell), mini_inner (the epoch
chosen on an inner split), mini_cell_inner (both) and mini_seed1, mini_seed2, ... (other seeds); see
parameters/profile. What was not trained is an empty `runs.Results`.
"""

import pandas as pd

from chromolib import parameters, runs, tables
from chromolib.errors import StudyError

VARIATIONS = {  # the end of the profile's name -> the parameters it may change
    "": set(),
    "cell": {"folds_by"},
    "inner": {"select_on"},
    "cell_inner": {"folds_by", "select_on"},
}
_SEEDED = {"seed", "draw", "parent_profile"}  # of another seed: few cells are drawn anew, parents are its own


def protocols(profile, tasks, architectures, approaches, folds):
    """The `runs.Results` of a profile (under "") and of each of `VARIATIONS` of it (under its end), checked for fit.

    Raises StudyError where the profile itself has no finished run, and as `check`.
    """
    grid = (tasks, architectures, approaches, folds)
    varied = {end: runs.results(f"{profile}_{end}" if end else profile, *grid) for end in VARIATIONS}
    tables.select(varied[""].scores, *grid)  # says so where there is nothing
    for end, changes in VARIATIONS.items():
        check(varied[""], varied[end], changes)
    return varied


def seeds(base, profile, numbers, tasks, architectures, approaches, folds):
    """The `runs.Results` of a profile (`base`) and of its seed variations, {seed: Results}; what is absent is empty.

    Raises StudyError as `check`, where the profile has no finished run, and where a variation has another seed than its
    name says.
    """
    tables.select(base.scores, tasks, architectures, approaches, folds)  # says so where there is nothing
    first = next(iter(base.records.values()))
    seeded = {first["parameters"]["seed"]: base}
    for number in numbers:
        seeded[number] = runs.results(f"{profile}_seed{number}", tasks, architectures, approaches, folds)
        check(base, seeded[number], _SEEDED)
        wrong = {record["parameters"]["seed"] for record in seeded[number].records.values()} - {number}
        if wrong:
            raise StudyError(f"{profile}_seed{number}: its runs have seed {min(wrong)}; train them with seed {number}")
    return seeded


def with_seeds(profile, numbers, tasks, architectures, approaches, folds):
    """The `runs.Results` of a profile, with those of its seed variations that have finished runs as its `others`.

    Empty where the profile has no finished run. Raises StudyError as `seeds`.
    """
    base = runs.results(profile, tasks, architectures, approaches, folds)
    if not base.records:
        return base
    seeded = seeds(base, profile, numbers, tasks, architectures, approaches, folds)
    return base._replace(others=tuple(other for other in list(seeded.values())[1:] if other.records))


def check(base, other, changes):
    """StudyError unless the runs of two `runs.Results` differ only in the parameters named in `changes` (a set).

    Each run of `other` is held against the same run of `base`: same images, and all other
    parameters equal. One that was not there yet when a run was made counts as having had its
    default.
    """
    for key in base.records.keys() & other.records.keys():
        one, two = base.records[key], other.records[key]
        ours, theirs = (parameters.of_run(record["parameters"]) for record in (one, two))
        where = f"{theirs['profile']}, {', '.join(key)}"
        if one["data"]["digest"] != two["data"]["digest"]:
            raise StudyError(f"{where}: was trained on other images than {ours['profile']}; train it anew")
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name) and name not in {"profile", *changes}:
                raise StudyError(
                    f"{where}: {name} is {theirs.get(name)!r}, in {ours['profile']} it is {ours.get(name)!r}; the two "
                    f"may differ in {', '.join(sorted(changes)) or 'nothing'} only: train one of them again"
                )


def overview(profile, varied, seeded):
    """How many runs and trainings are finished: DataFrame, a row per profile."""
    profiles = {f"{profile}_{end}" if end else profile: results for end, results in varied.items()}
    profiles |= {f"{profile}_seed{number}": results for number, results in seeded.items() if results is not varied[""]}
    counts = [(len(results.records), len(results.scores)) for results in profiles.values()]
    return pd.DataFrame(counts, [*profiles], ["runs", "trainings"]).rename_axis("profile")
