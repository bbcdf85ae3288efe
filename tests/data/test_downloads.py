"""`opinionlm get_data`, against servers of this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from opinionlm.data import downloads
from opinionlm.data.downloads import fetch_hub, get_data
from opinionlm.data.preparation.sources import find_sources
from opinionlm.data.readers import hub as hub_reader
from opinionlm.data.spec import HubSpec
from opinionlm.data.spec_parsing import load_spec, spec_from_dict
from opinionlm.errors import UserError
from tests.conftest import REPOSITORY

CONTENT = b"text,label\n" + b"".join(b"post %d,a\n" % number for number in range(20_000))


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``breaks_at`` bytes of an answer it gives up."""

    breaks_at: int | None = None
    takes_ranges = True
    requests: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        if self.path.startswith("/api/datasets/"):
            return self.answer(
                200, json.dumps({"id": "x/y", "siblings": [{"rfilename": "a", "size": 1_500_000}]}).encode()
            )
        if self.path != "/posts.csv":
            return self.send_error(404, "Not Found")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.takes_ranges else 0
        if start > len(CONTENT):
            return self.send_error(416)
        return self.answer(206 if start else 200, CONTENT[start:])

    def answer(self, status: int, content: bytes) -> None:
        assert isinstance(self.server, Server)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.breaks_at])

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def spec_of(url: str, **changes: str):
    file = {"path": "sub/posts.csv", "columns": {"text": "text", "label": "label"}, "url": url} | changes
    return spec_from_dict({"name": "posts", "licence": "CC BY 4.0", "files": [file]}, "posts.yaml")


def test_a_file_is_fetched_once_and_checked(server, tmp_path, capsys):
    right = hashlib.sha256(CONTENT).hexdigest()
    spec = spec_of(f"{address(server)}/posts.csv", sha256=right)
    get_data(spec, tmp_path)
    said = capsys.readouterr().out
    assert (tmp_path / "sub/posts.csv").read_bytes() == CONTENT and not list(tmp_path.rglob("*.part"))
    assert "licence: CC BY 4.0" in said and "0.2 MB from http://127.0.0.1" in said and "has the right SHA-256" in said
    get_data(spec, tmp_path)
    assert "posts.csv is there" in capsys.readouterr().out and len(server.requests) == 1
    (tmp_path / "sub/posts.csv").write_bytes(b"mine")
    with pytest.raises(UserError, match="its SHA-256 is .*, not .*; remove it"):
        get_data(spec, tmp_path)
    assert (tmp_path / "sub/posts.csv").read_bytes() == b"mine"


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, takes_ranges):
    spec = spec_of(f"{address(server)}/posts.csv")
    server.breaks_at, server.takes_ranges = 100_000, takes_ranges
    with pytest.raises(UserError, match=r"broke off at [\d,]+ of [\d,]+ bytes|cannot be fetched") as caught:
        get_data(spec, tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "sub/posts.csv").exists()
    kept = (tmp_path / "sub/posts.csv.part").stat().st_size
    assert 0 < kept <= 100_000
    server.breaks_at = None
    get_data(spec, tmp_path)
    assert (tmp_path / "sub/posts.csv").read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={kept}-"]


def test_a_part_that_is_no_beginning_is_dropped(server, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/posts.csv.part").write_bytes(CONTENT * 2)
    get_data(spec_of(f"{address(server)}/posts.csv"), tmp_path)
    assert (tmp_path / "sub/posts.csv").read_bytes() == CONTENT
    # One of the right length is known by the checksum alone.
    (tmp_path / "sub/posts.csv").unlink()
    (tmp_path / "sub/posts.csv.part").write_bytes(b"x" * 1_000)
    spec = spec_of(f"{address(server)}/posts.csv", sha256=hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(UserError, match="it is not the file that was published"):
        get_data(spec, tmp_path)
    get_data(spec, tmp_path)
    assert (tmp_path / "sub/posts.csv").read_bytes() == CONTENT


def test_what_cannot_be_had_is_one_line(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be fetched .*Not Found"):
        get_data(spec_of(f"{address(server)}/other.csv"), tmp_path)
    with pytest.raises(UserError, match=r"cannot be fetched .*; check the network .* put the file to .*posts.csv"):
        get_data(spec_of("http://127.0.0.1:9/posts.csv"), tmp_path)
    with pytest.raises(UserError, match="no address is known for sub/posts.csv"):
        get_data(spec_of(""), tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set") as caught:
        get_data(spec_of(f"{address(server)}/posts.csv"), tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.csv"))


def test_a_hub_data_set_goes_into_the_cache(server, monkeypatch, capsys):
    # The tests are offline to the libraries; this server is of this machine.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr(hub_reader, "read_hub", lambda spec, split, notes: asked.append(split) or iter(()))
    spec = HubSpec("x/y", {"text": "text", "label": "label"}, splits={"train": "train", "test": "dev"})
    fetch_hub(spec, address(server))
    assert asked == ["train", "dev"] and "hub x/y: at most 1.5 MB" in capsys.readouterr().out
    with pytest.raises(UserError, match="hub data set 'x/y'.*check the name and the network"):
        fetch_hub(spec, "http://127.0.0.1:9")


def test_training_says_what_to_type(tmp_path):
    with pytest.raises(UserError, match="not found in .*; fetch them: python -m opinionlm get_data cryptoqa; or give"):
        find_sources(load_spec("cryptoqa"), tmp_path)


def test_addresses_decide_nothing_of_what_is_prepared():
    assert spec_of("http://a/b").to_dict() == spec_of("http://c/d", sha256="0" * 64).to_dict()


def test_every_address_names_a_commit():
    urls = [file.url for path in (REPOSITORY / "configs/datasets").glob("*.yaml") for file in load_spec(path).files]
    urls = [url for url in urls if url]
    assert len(urls) >= 18
    at_commit = re.compile(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/.+")
    assert not [url for url in urls if not at_commit.fullmatch(url)], "raw files of GitHub at a whole commit hash"


def test_checksums_are_those_of_the_files(shared_data):
    checked = 0
    for path in (REPOSITORY / "configs/datasets").glob("*.yaml"):
        for file in load_spec(path).files:
            if file.sha256 and (shared_data / file.path).is_file():
                downloads.check(shared_data / file.path, file)
                checked += 1
    assert checked >= 9
