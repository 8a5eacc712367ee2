"""Does fine-tuning on an intermediate staining improve a 24-class chromosome classifier?

The thin library under the notebooks. Nothing heavy is imported until it is used, so that
`import chromolib` stays quick: `chromolib.datasets` and the other modules load on first access.
"""

import importlib

__version__ = "0.1.0"

CLASSES = (*(str(number) for number in range(1, 23)), "X", "Y")

_MODULES = (
    "architectures",
    "archives",
    "calibration",
    "claims",
    "datasets",
    "device",
    "duplicates",
    "errors",
    "execute",
    "figures",
    "files",
    "folds",
    "gradcam",
    "images",
    "karyotype",
    "localisation",
    "intervals",
    "measures",
    "metrics",
    "own",
    "parameters",
    "paths",
    "photographs",
    "plan",
    "provenance",
    "report",
    "runs",
    "similarity",
    "sizes",
    "slots",
    "statistics",
    "synthetic",
    "tables",
    "training",
    "validity",
)


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"chromolib.{name}")
    raise AttributeError(f"module 'chromolib' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES])
