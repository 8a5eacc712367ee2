"""Run a notebook of the study with papermill, its parameters checked first: what the graph does for every job.

    python -m chromolib.execute 03_training OUT.ipynb -f parameters/profile/demo.yaml -p task q_band

Papermill itself only warns about a misspelt parameter; here it stops before a kernel starts. The options -f and -p are
papermill's own. A parameter file may hold parameters of other notebooks: each notebook takes those it knows.

SIGTERM, SIGUSR1 and SIGINT interrupt the kernel. What was saved stays, so that the same command goes on from there, and
the exit status is 75 (0: every cell succeeded; 1: one failed; 2: unknown options).
"""

import argparse
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

if "rfc3987_syntax" not in sys.modules:
    # Papermill imports jsonschema, and that a grammar of web addresses if JupyterLab brought it: most of the time of a
    # whole start. What is None is not imported, and jsonschema does without.
    sys.modules["rfc3987_syntax"] = None

import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from chromolib import parameters, paths, slots
from chromolib.errors import StudyError

INTERRUPTED = 75  # exit status, EX_TEMPFAIL: stopped by a signal; the same command goes on
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]
GRACE = 20  # seconds from interrupting the kernel to killing it; Slurm kills the whole job after 30
KILLED = "the kernel was killed, perhaps for want of memory; started again, the run goes on with what was saved"
STARTS = 3  # kernels starting at once can race for the same port: https://github.com/nteract/papermill/issues/511
KERNEL = KernelSpec(  # this Python, whatever a kernel called python3 in the user's folder may be
    argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    display_name="Python 3",
    language="python",
)


class Interrupted(Exception):
    """A signal stopped the notebook; run again, it goes on with what was saved."""


def run(notebook, output, values, count=1):
    """Execute the study's notebook of that name with parameter `values` (dict) into the file `output`.

    On a machine with GPUs the kernel gets `count` of the four slots of one of them (see `chromolib.slots`). The
    executed notebook is written cell by cell, so it is there after a failure too. Raises StudyError for unknown or
    mistyped values, before a kernel starts, and for whatever else the notebook refuses; papermill's
    PapermillExecutionError where a cell fails otherwise; Interrupted where a signal stopped it. To be called in the
    main thread, as signals are handled there.
    """
    chosen = parameters.select(notebook, values)
    with _Signals() as signals, slots.take(count) as Kernel.device:
        try:
            return _execute(notebook, output, chosen, signals)
        except (PapermillExecutionError, RuntimeError) as error:
            signals.check()
            if isinstance(error, DeadKernelError):
                raise StudyError(KILLED) from error
            if getattr(error, "ename", None) == "StudyError":  # what the notebook refuses needs no traceback
                raise StudyError(error.evalue) from error
            raise
        except OSError as error:
            raise StudyError(f"{output}: cannot be written ({error}); make room, or set CHROMOLIB_RUNS") from error


def _execute(notebook, output, values, signals):
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    signals.at_papermill = True
    for start in range(1, STARTS + 1):
        try:
            return papermill.execute_notebook(
                paths.NOTEBOOKS / f"{notebook}.ipynb",
                str(output),
                values,
                kernel_name="python3",
                cwd=str(paths.NOTEBOOKS),
                progress_bar=False,
                stdout_file=sys.stdout,
                kernel_manager_class=Kernel,
                on_cell_start=signals.check,
            )
        except RuntimeError as error:  # the kernel did not come up, unless it died later
            if start == STARTS or signals.received or isinstance(error, DeadKernelError) or "Kernel" not in str(error):
                raise


class Kernel(AsyncKernelManager):
    """Papermill's kernel, on the GPU it may use, and known to this process, which runs one at a time."""

    device = None  # the only GPU that the kernel sees; None: no limit
    group = None  # of processes, the kernel's; on Windows, which has no groups, its own process
    kernel_spec = KERNEL

    async def start_kernel(self, **options):
        limit = {} if self.device is None else {"CUDA_VISIBLE_DEVICES": self.device}
        await super().start_kernel(env=paths.environment() | limit, **options)
        Kernel.group = self.provisioner.pgid or self.provisioner.pid

    async def cleanup_resources(self, **options):
        Kernel.group = None
        await super().cleanup_resources(**options)


class _Signals:
    """Inside its `with`, the first signal interrupts the kernel, and kills it where that does not end it.

    Papermill then sees a cell fail with KeyboardInterrupt, and ends by itself: an exception raised by a handler would
    leave its event loop at any place. Before papermill begins, while this process waits for a GPU, it is raised.
    """

    def __enter__(self):
        self.received, self.at_papermill, self._killer = None, False, None
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._killer:
            self._killer.cancel()

    def check(self, **_):
        """Stop before a cell begins, for a kernel ignores what reaches it between two cells."""
        if self.received:
            raise Interrupted

    def _handle(self, number, _):
        if self.received:
            return
        self.received = number
        if not self.at_papermill:
            raise Interrupted
        self._send(signal.SIGINT)
        self._killer = threading.Timer(GRACE, self._send, [getattr(signal, "SIGKILL", signal.SIGTERM)])
        self._killer.daemon = True
        self._killer.start()

    @staticmethod
    def _send(number):
        if Kernel.group is not None:
            with suppress(ProcessLookupError):  # it has just ended
                getattr(os, "killpg", os.kill)(Kernel.group, number)


def main(arguments=None):
    """Read papermill's options -f and -p, and run; exit status 0 only where every cell succeeded."""
    parser = argparse.ArgumentParser(prog="python -m chromolib.execute", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", help="its name, such as 03_training")
    parser.add_argument("output", help="where the executed notebook goes")
    parser.add_argument("-f", action="append", default=[], metavar="FILE", help="a parameter file; the later one wins")
    parser.add_argument("-p", action="append", default=[], nargs=2, metavar=("NAME", "VALUE"), help="one parameter")
    parser.add_argument(
        "--slots", type=int, default=1, metavar="N", help="quarters of a GPU that the job takes, 1 to 4"
    )
    given = parser.parse_args(arguments)
    try:
        single = {name: parameters.parse(value, f"parameter {name!r}") for name, value in given.p}
        name = Path(given.notebook).name.removesuffix(".ipynb")
        run(name, given.output, parameters.load(*given.f) | single, given.slots)
    except Interrupted:
        print(f"{given.notebook}: interrupted; started again, the run goes on where it was", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (StudyError, PapermillExecutionError) as error:
        sys.exit(f"{given.notebook}: {error}")


if __name__ == "__main__":
    main()
