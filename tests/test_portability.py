"""What only POSIX or Linux has is hidden, as on Windows: every module still loads, and notebooks run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chromolib import paths

HIDDEN = """
import errno, os, signal, stat, sys
import psutil  # looks at the real system, once; on Windows it has its own way

sys.modules["fcntl"] = None
for module, name in [(signal, "SIGUSR1"), *((os, name) for name in ("sysconf", "sched_getaffinity", "EX_TEMPFAIL"))]:
    delattr(module, name)
flush = os.fsync

def fsync(handle):
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "a folder cannot be flushed")
    flush(handle)

os.fsync = fsync
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Run Python with these words on such a system, and what it starts too; its output, after an exit status of 0."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    variables = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(paths.ROOT)]),
        "CHROMOLIB_RUNS": str(tmp_path / "runs"),
    }

    def run(*words):
        done = subprocess.run([sys.executable, *words], env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


def test_it_is_hidden(elsewhere):
    code = "import os, signal, sys; print(sys.modules['fcntl'], hasattr(os, 'sysconf'), hasattr(signal, 'SIGUSR1'))"
    assert elsewhere("-c", code) == "None False False\n"


def test_every_module_loads(elsewhere):
    modules = sorted(path.stem for path in (paths.ROOT / "chromolib").glob("[!_]*.py"))
    assert (
        elsewhere("-c", f"import {', '.join(f'chromolib.{name}' for name in modules)}; print('loaded')") == "loaded\n"
    )


def test_the_machine_is_described_as_far_as_it_can_be(elsewhere):
    code = "from chromolib import provenance; found = provenance.hardware(); print(found['cores'], found['memory_gib'])"
    assert elsewhere("-c", code) == f"{os.cpu_count()} None\n"


def test_the_graph_is_planned(elsewhere, tmp_path):
    where = ["--snakefile", str(paths.ROOT / "Snakefile"), "--directory", str(tmp_path), "--cores", "1"]
    assert "train" in elsewhere("-m", "snakemake", *where, "--dry-run", "--config", "profile=smoke")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["01_data_exploration", "02_domain_similarity", "03_training"])
def test_a_notebook_runs_at_its_smallest_size(elsewhere, tmp_path, notebook):
    profile = paths.PARAMETERS / "profile" / "smoke.yaml"
    elsewhere("-m", "chromolib.execute", notebook, str(tmp_path / "out.ipynb"), "-f", str(profile))
    assert notebook != "03_training" or len(list(Path(tmp_path / "runs").rglob("run.json"))) == 1
