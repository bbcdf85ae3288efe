"""Where make takes torch from: PyTorch's CPU index where there is no GPU and it answers, else wherever pip looks."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from tools.torch_index import answers, pip_arguments

PINS = "# torch==1 is old\nnumpy==2.4.6\ntorch==2.13.0\ntorchfoo==3\n"


class Index(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:  # noqa: N802 — the server's name for it
        self.send_response(200 if self.path == "/whl/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    server.shutdown()


def test_the_cpu_build_where_the_index_answers(index: str) -> None:
    assert pip_arguments(PINS, has_gpu=False, index=index) == ["torch==2.13.0", "--index-url", index]


def test_plain_pip_otherwise(index: str) -> None:
    assert pip_arguments(PINS, has_gpu=True, index=index) == []
    assert pip_arguments(PINS, has_gpu=False, index=index.replace("cpu", "nothing")) == []
    assert pip_arguments("numpy==2.4.6\n", has_gpu=False, index=index) == []


def test_a_server_that_is_silent_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.5)
        assert time.monotonic() - started < 5
    assert not answers("http://127.0.0.1:1/")


def test_it_runs_on_a_bare_python() -> None:
    command = [sys.executable, "-I", "-S", "tools/torch_index.py", "requirements.txt"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "" or done.stdout.startswith("torch==")
