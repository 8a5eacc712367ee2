"""What strangers, and strange parameters, cannot do. Archives, images and weights have tests of their own."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import psutil
import pytest

from chromolib import paths
from chromolib.__main__ import PROGRAMS


def test_no_shell_sees_a_parameter():
    """No shell in the library, and in the graph nothing that is not quoted."""
    for file in (paths.ROOT / "chromolib").glob("*.py"):
        assert not re.search(r"shell=True|os\.system|os\.popen", file.read_text()), file.name
    commands = (paths.ROOT / "Snakefile").read_text().split("shell:")[1:]
    assert len(commands) >= 3
    for command in commands:
        fields = re.findall(r"{(.*?)}", command.split("\n\n")[0])
        plain = {field for field in fields if not field.endswith(":q")}
        assert plain <= {"params.notebook", "resources.gpu_slots"}, command  # names in the file itself, and a number


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as `make lab` starts it, but for the browser and the port: (process, what it says of itself)."""
    words = PROGRAMS["lab"][0][0]
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "RUNTIME", "DATA")}
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--no-browser", "--port=0", "--allow-root"],
        cwd=paths.ROOT,
        env={name: value for name, value in os.environ.items() if "TOKEN" not in name} | folders,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = None
        for _ in range(12_000):  # two minutes: far more than it takes
            for file in (tmp_path / "runtime").glob("jpserver-*.json"):
                with contextlib.suppress(json.JSONDecodeError):  # it is being written
                    server = json.loads(file.read_text())
            if server or process.poll() is not None:
                break
            threading.Event().wait(0.01)
        yield process, server
    finally:
        process.kill()
        process.wait()


def test_jupyterlab_listens_to_this_machine_only_and_wants_its_token(lab):
    process, server = lab
    listening = [place for place in psutil.Process(process.pid).net_connections() if place.status == "LISTEN"]
    assert {place.laddr.ip for place in listening} <= {"127.0.0.1", "::1"}
    assert len(server["token"]) >= 40
    address = f"http://127.0.0.1:{server['port']}/api/contents"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address, timeout=60)
    request = urllib.request.Request(address, headers={"Authorization": f"token {server['token']}"})
    assert urllib.request.urlopen(request, timeout=60).status == 200
