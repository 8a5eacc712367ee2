"""What only POSIX or Linux has is hidden, as on Windows: every module loads. tests/test_workflow.py runs the study."""

import os

from chromolib import paths


def test_it_is_hidden(elsewhere):
    code = "import os, signal, sys; print(sys.modules['fcntl'], hasattr(os, 'sysconf'), hasattr(signal, 'SIGUSR1'))"
    assert elsewhere("-c", code) == "None False False\n"


def test_every_module_loads_and_the_machine_is_described_as_far_as_it_can_be(elsewhere):
    modules = sorted(path.stem for path in (paths.ROOT / "chromolib").glob("[!_]*.py"))
    code = f"import {', '.join(f'chromolib.{name}' for name in modules)}\n"
    code += "found = chromolib.provenance.hardware(); print(found['cores'], found['memory_gib'])"
    assert elsewhere("-c", code) == f"{os.cpu_count()} None\n"
