"""Run a notebook of the study with papermill, its parameters checked first: what the graph does for every job.

    python -m chromolib.execute 03_training OUT.ipynb -f parameters/profile/demo.yaml -p task q_band

Papermill itself only warns about a misspelt parameter; here it stops before a kernel starts. The options are
papermill's own. A parameter file may hold parameters of other notebooks: each notebook takes those it knows.
"""

import argparse
import sys
from pathlib import Path

import papermill
import yaml

from chromolib import parameters, paths
from chromolib.errors import StudyError

STARTS = (
    3  # several kernels starting at once can race for the same port: https://github.com/nteract/papermill/issues/511
)


def run(notebook, output, values):
    """Execute notebooks/<notebook>.ipynb with parameter `values` (dict) into the file `output`.

    The executed notebook is written cell by cell, so it is there after a failure too. Raises StudyError for
    unknown or mistyped values, before a kernel starts, and papermill's PapermillExecutionError where a cell fails.
    """
    chosen = parameters.select(notebook, values)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    for start in range(1, STARTS + 1):
        try:
            return papermill.execute_notebook(
                paths.NOTEBOOKS / f"{notebook}.ipynb",
                str(output),
                chosen,
                kernel_name="python3",
                cwd=str(paths.NOTEBOOKS),
                progress_bar=False,
                stdout_file=sys.stdout,
            )
        except RuntimeError as error:  # raised only before the first cell: the kernel did not come up
            if start == STARTS or "Kernel" not in str(error):
                raise


def main(arguments=None):
    """Read papermill's options -f and -p, and run; exit status 0 only where every cell succeeded."""
    parser = argparse.ArgumentParser(prog="python -m chromolib.execute", description=__doc__.splitlines()[0])
    parser.add_argument("notebook", help="name without .ipynb, such as 03_training")
    parser.add_argument("output", help="where the executed notebook goes")
    parser.add_argument("-f", action="append", default=[], metavar="FILE", help="a parameter file; the later one wins")
    parser.add_argument("-p", action="append", default=[], nargs=2, metavar=("NAME", "VALUE"), help="one parameter")
    given = parser.parse_args(arguments)
    try:
        single = {name: yaml.safe_load(value) for name, value in given.p}
        run(given.notebook, given.output, parameters.load(*given.f) | single)
    except (StudyError, papermill.exceptions.PapermillExecutionError) as error:
        sys.exit(f"{given.notebook}: {error}")


if __name__ == "__main__":
    main()
