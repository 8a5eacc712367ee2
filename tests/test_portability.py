"""What only POSIX or Linux has is hidden, as on Windows: every module loads. tests/test_workflow.py runs the study."""

import ast
import os

import pytest

from chromolib import paths


def test_it_is_hidden(elsewhere):
    code = "import os, signal, sys; print(sys.modules['fcntl'], hasattr(os, 'sysconf'), hasattr(signal, 'SIGUSR1'))"
    assert elsewhere("-c", code) == "None False False\n"


def test_every_module_loads_and_the_machine_is_described_as_far_as_it_can_be(elsewhere):
    modules = sorted(path.stem for path in (paths.ROOT / "chromolib").glob("[!_]*.py"))
    code = f"import {', '.join(f'chromolib.{name}' for name in modules)}\n"
    code += "found = chromolib.provenance.hardware(); print(found['cores'], found['memory_gib'])"
    assert elsewhere("-c", code) == f"{os.cpu_count()} None\n"


@pytest.mark.parametrize("path", sorted((paths.ROOT / "tests").glob("*.py")), ids=lambda path: path.stem)
def test_no_test_imports_at_its_top_what_windows_has_not(path):
    """pytest would not load the file there, and none of its tests would run; those that need such a module skip."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert not names & {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
