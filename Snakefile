# The study as a graph of notebook runs.  make demo, make study PROFILE=mini, or by hand:
#   snakemake --profile workflow/profiles/local --config profile=mini     add -n to see the plan, without doing anything
#   snakemake --profile workflow/profiles/slurm --config profile=paper    the same on a cluster
# An interrupted study goes on where it was: finished runs are kept, and an unfinished one resumes at its last epoch.
import ast
import csv
import functools
import hashlib
import signal
import sys
from pathlib import Path

from chromolib import datasets, files, parameters, paths, slots
from chromolib.errors import StudyError

PROFILE = str(config.get("profile", "demo"))
try:
    FILES = [str(file) for file in parameters.profile_files(PROFILE)]  # the later one before the earlier
    STUDY = parameters.known() | parameters.load(*FILES)  # the notebooks' defaults under the profile's values
    named = parameters.load(*FILES)
    parameters.select("03_training", named)  # refuses what no notebook knows
    for kind, names in {"architecture": STUDY["architectures"], "approach": STUDY["approaches"]}.items():
        for name in names:
            parameters.path(kind, name)
    unknown = [task for task in STUDY["tasks"] if task not in parameters.tasks(STUDY)]
    if unknown:
        raise StudyError(f"task {unknown[0]!r}: names no data set; there are {', '.join(parameters.tasks(STUDY))}")
    sets = [STUDY[task] for task in STUDY["tasks"] if STUDY[task] not in datasets.names()]
    if sets:
        raise StudyError(f"unknown data set {sets[0]!r}; there are {', '.join(datasets.names())}")
    if STUDY["profile"] != PROFILE:  # its trainings would go into another profile's folder
        raise StudyError(f"its file says `profile: {STUDY['profile']}`; write `profile: {PROFILE}` there")
    lacking = [name for name in ("architectures", "approaches", "folds", "image_size") if name not in named]
    if lacking:  # each notebook has defaults of its own for these, which do not go together
        raise StudyError(f"names no {', no '.join(lacking)}; write a line for each, as in parameters/profile/own.yaml")
except StudyError as error:
    sys.exit(f"{PROFILE}: {error}")
RUNS = f"{paths.runs().as_posix()}/{PROFILE}"
TABLES = {  # what each notebook leaves for the report
    "01_data_exploration": ["data"],
    "02_domain_similarity": ["table1_similarity"],
    "04_statistics": ["table2_performance", "table3_architectures", "table4_approaches", "gains", "claims"],
    "05_grad_cam": ["grad_cam"],
    "06_validity": ["validity_protocols", "validity_changes", "validity_gains", "whole_cells", "transfer"],
    "07_karyotype": ["calibration", "karyotype_calls", "karyotype_summary", "karyotype_differences", "karyotype_search"],
    "08_second_step": ["second_step", "second_step_between_tasks", "learning_curve", "second_step_variations"],
}
ALL_RUNS = expand(
    f"{RUNS}/{{task}}/{{architecture}}/{{approach}}/run.json",
    task=STUDY["tasks"],
    architecture=STUDY["architectures"],
    approach=STUDY["approaches"],
)
DAY = 24 * 60  # minutes: few clusters grant more; a run that needs longer is stopped, and goes on in a new job
with open(paths.ROOT / "workflow" / "needs.csv", encoding="utf-8") as lines:
    NEEDS = {row["architecture"]: row for row in csv.DictReader(line for line in lines if not line.startswith("#"))}

# Slurm's warning before the time limit reaches every process of a job. The one that runs the notebook answers it.
if hasattr(signal, "SIGUSR1"):  # not on Windows
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# What a result depends on stands in the `params` of its rule: where that changes, Snakemake makes the result again.


def code(notebook):
    """The notebook's code without comments, outputs and defaults."""
    return ast.dump(ast.parse(parameters.source(notebook)))


@functools.cache  # half a second of work, for each notebook
def library():
    """Digest of the library, its networks and data sets, less comments. Tables follow it; a training, hours long, does not."""
    modules = sorted((paths.ROOT / "chromolib").glob("*.py"))
    parts = [ast.dump(ast.parse(module.read_bytes())) for module in modules]
    parts += [str(parameters.load(paths.PARAMETERS / name)) for name in ("architectures.yaml", "sources.yaml")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def settings(notebook, names):
    """All parameters of a notebook under these files, defaults included, and the own data sets that they name."""
    values = parameters.defaults(notebook) | parameters.select(notebook, parameters.load(*names))
    own = [file for file in (paths.PARAMETERS / "dataset").glob("*.yaml") if file.stem in values.values()]
    return values | {file.stem: parameters.load(file) for file in own}


@functools.cache
def read_beside():
    """What the notebooks that judge runs read besides them: the paper's claims, the approaches, the coverage tables."""
    described = [paths.PARAMETERS / "claims.yaml", *sorted((paths.PARAMETERS / "approach").glob("*.yaml"))]
    coverage = sorted((paths.ROOT / "runs" / "reference" / "coverage").glob("*.csv"))
    return [parameters.load(file) for file in described] + [files.sha256(file) for file in coverage]


def variations(notebook):
    """The finished runs of this profile's variations, such as mini_cell of mini, which notebooks 6 and 8 compare."""
    varied = sorted(map(str, paths.runs().glob(f"{PROFILE}_*/*/*/*/run.json")))
    few = sorted(map(str, paths.runs().glob(f"{STUDY['curve']}*/*/*/*/run.json")))
    return {"06_validity": varied, "08_second_step": varied + few}.get(notebook, [])


def tables(notebook):
    return [f"{RUNS}/tables/{name}.csv" for name in TABLES[notebook]]


def values(wildcards):
    """The parameter files of a training run, the later one before the earlier."""
    kinds = {"architecture": wildcards.architecture, "approach": wildcards.approach}
    return FILES + [str(parameters.path(kind, name)) for kind, name in kinds.items()]


def options(files):
    return [word for file in files for word in ("-f", file)]


def parent(wildcards):
    """The run on another task that a run begins from, if its approach has one."""
    start = parameters.approach(wildcards.approach)
    if not start["parent"]:
        return []
    profile, task, approach = parameters.parent(STUDY | start | {"task": wildcards.task})
    file = f"{paths.runs()}/{profile}/{task}/{wildcards.architecture}/{approach}/run.json"
    if profile != PROFILE and not Path(file).exists():
        sys.exit(f"{PROFILE}: begins from runs of another profile: make study PROFILE={profile} ONLY=trainings first")
    return file


def shown(notebook):
    """Of notebook 5, which shows one task and one network: the first of the profile's, where it lacks the usual one."""
    usual, grid = settings(notebook, FILES), {"task": STUDY["tasks"], "cam_architecture": STUDY["architectures"]}
    others = {name: names[0] for name, names in grid.items() if notebook == "05_grad_cam" and usual[name] not in names}
    return [word for name, value in others.items() for word in ("-p", name, value)]


def need(column, wildcards):
    """What workflow/needs.csv says of the architecture of a training run: a whole number."""
    return int(NEEDS.get(wildcards.architecture, NEEDS["other"])[column])


def stages(wildcards):
    """How often the approach of a training run goes through the steps of one."""
    return parameters.approach(wildcards.approach).get("stages", 1)


rule report:
    input:
        ALL_RUNS,
        [tables(notebook) for notebook in TABLES],
    output:
        f"{RUNS}/index.html",
    params:
        code=library(),
        page=[files.sha256(file) for file in sorted((paths.ROOT / "chromolib").glob("report.*"))],
    localrule: True
    shell:
        "{sys.executable:q} -m chromolib.report write {PROFILE:q}"


rule trainings:  # without the report: for a variation, which the report of another profile compares
    input:
        ALL_RUNS,


rule train:
    # The long jobs first; the short ones fill the cores that they leave.
    priority: 2
    input:
        parent,
    output:
        # run.json vouches for the rest of the folder; Snakemake deletes declared outputs of a failed job, so
        # the weights and the resume state are not declared. update: nor does it delete a finished run before it asks
        # for it again; with the same settings that gives it back, with others it is refused.
        update(f"{RUNS}/{{task}}/{{architecture}}/{{approach}}/run.json"),
    log:
        f"{RUNS}/{{task}}/{{architecture}}/{{approach}}/training.ipynb",
    params:
        code=code("03_training"),
        values=lambda wildcards: settings("03_training", values(wildcards)) | {"task": wildcards.task},
        files=lambda wildcards: options(values(wildcards)),
    resources:
        gpu_slots=lambda wildcards: slots.needed(need("gpu_slots", wildcards), need("gpu_gib", wildcards)),
        mem_mb=lambda wildcards, attempt: 1024 * min(attempt, 3) * need("memory_gib", wildcards),
        runtime=lambda wildcards: min(DAY, len(STUDY["folds"]) * stages(wildcards) * need("minutes_per_fold", wildcards)),
    shell:
        "{sys.executable:q} -m chromolib.execute 03_training {log:q} {params.files:q} -p task {wildcards.task:q}"
        " --slots {resources.gpu_slots}"


for notebook in TABLES:

    rule:
        name:
            notebook[3:]
        priority: 1 if notebook == "05_grad_cam" else 0
        input:
            ALL_RUNS if notebook > "03_training" else [],
            tables("02_domain_similarity") if notebook in ("04_statistics", "06_validity") else [],
            tables("07_karyotype") if notebook == "08_second_step" else [],
            variations(notebook),
        output:
            tables(notebook),
        log:
            f"{RUNS}/{notebook}.ipynb",
        params:
            notebook=notebook,
            code=(code(notebook), library()),
            values=settings(notebook, FILES),
            beside=read_beside() if notebook > "03_training" else [],
            files=options(FILES) + shown(notebook),
        resources:
            gpu_slots=1,
            mem_mb=lambda wildcards, attempt: 16_384 * attempt,
            runtime=240,
        shell:
            "{sys.executable:q} -m chromolib.execute {params.notebook} {log:q} {params.files:q}"
