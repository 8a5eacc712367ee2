"""Does fine-tuning on an intermediate staining improve a 24-class chromosome classifier?

The thin library under the notebooks. Nothing heavy is imported until it is used, so that
`import chromolib` stays quick: `chromolib.datasets` and the other modules load on first access.
"""

import importlib

__version__ = "0.1.0"

CLASSES = (*(str(number) for number in range(1, 23)), "X", "Y")
N_CHROMOSOMES = 46  # of a normal cell


def __getattr__(name):
    try:
        return importlib.import_module(f"chromolib.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"chromolib.{name}":
            raise  # a package that the module needs
    raise AttributeError(f"module 'chromolib' has no attribute {name!r}")
