"""All benchmarks, or those that are named: `python benchmarks [name ...]`. One that fails does not stop the others."""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("loading", "bootstrap", "similarity", "training", "training_growth", "same_science")

failed = []
for name in sys.argv[1:] or NAMES:
    started = time.perf_counter()
    if subprocess.run([sys.executable, HERE / f"{name}.py"], check=False).returncode:
        failed.append(name)
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
