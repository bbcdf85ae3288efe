"""A stand-in of the Hugging Face hub on this machine: what huggingface_hub 2.4 asks of it, with Git LFS and no Xet."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"
OWNERS = ("me", "lab")


@dataclass
class Repository:
    """A model: its files by commit, the newest last; those of LFS as digests."""

    private: bool
    commits: dict[str, dict[str, bytes | str]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes | str]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        return sha

    def at(self, revision: str) -> str | None:
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    """The hub, whose LFS storage breaks down once it has taken ``takes`` objects."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.takes: int | None = None
        self.puts: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def content(self, stored: bytes | str) -> bytes:
        return self.objects[stored] if isinstance(stored, str) else stored

    def files(self, name: str) -> dict[str, bytes]:
        """What a repository holds, apart from the hub's own file."""
        repository = self.repositories[name]
        found = repository.commits[list(repository.commits)[-1]]
        return {path: self.content(stored) for path, stored in found.items() if path != ".gitattributes"}


@contextmanager
def serving() -> Iterator[Hub]:
    """A running hub."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def reply(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/whoami-v2":
            account = {"name": OWNERS[0], "orgs": [{"name": name} for name in OWNERS[1:]]}
            return self.reply(200, account) if self.is_known else self.reply(401, {"error": "Invalid credentials"})
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.is_known):
            return self.reply(404 if self.is_known else 401, {"error": "none"}, X_Error_Code="RepoNotFound")
        sha = repository.at(rest[1] if len(rest) > 1 else "main")
        if sha is None:
            return self.reply(404, {"error": "none"}, X_Error_Code="RevisionNotFound")
        return self.reply_about(name, repository, sha, rest)

    do_HEAD = do_GET

    def reply_about(self, name: str, repository: Repository, sha: str, rest: list[str]) -> None:
        files = repository.commits[sha]
        match rest:
            case [] | ["revision", _]:
                siblings = [{"rfilename": path} for path in files]
                self.reply(200, {"id": name, "sha": sha, "private": repository.private, "siblings": siblings})
            case ["tree", *_]:
                self.reply(200, [self.entry(path, stored) for path, stored in files.items()])
            case ["resolve", _, *place] if "/".join(place) not in files:
                self.reply(404, {"error": "none"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            case ["resolve", _, *place]:
                content = self.server.content(files["/".join(place)])
                self.reply(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=sha)

    def entry(self, path: str, stored: bytes | str) -> dict[str, Any]:
        content = self.server.content(stored)
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": oid}
        if isinstance(stored, str):
            found["lfs"] = {"oid": stored, "size": len(content), "pointerSize": 130}
        return found

    def do_PUT(self) -> None:
        digest, content = self.path.rpartition("/")[2], self.body()
        if self.server.takes is not None and len(self.server.puts) >= self.server.takes:
            return self.reply(400, {"error": "the storage is down"})
        assert hashlib.sha256(content).hexdigest() == digest
        self.server.puts.append(digest)
        self.server.objects[digest] = content
        return self.reply(200)

    def do_POST(self) -> None:
        body = self.body()
        if not self.is_known:
            return self.reply(401, {"error": "Invalid credentials"})
        if self.path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            return self.reply(200, {"transfer": "basic", "objects": list(map(self.lfs_action, asked))})
        parts = self.path.removeprefix("/api/models/").split("/")
        repository = self.server.repositories["/".join(parts[:2])]
        if parts[2] == "preupload":
            files = [self.upload_mode(one["path"]) for one in json.loads(body)["files"]]
            return self.reply(200, {"files": files})
        assert parts[2:] == ["commit", "main"]
        return self.commit("/".join(parts[:2]), repository, [json.loads(line) for line in body.splitlines()])

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in OWNERS:
            return self.reply(403, {"error": "no rights"})
        if name in self.server.repositories:
            return self.reply(409, {"error": "taken"})
        repository = Repository(asked["visibility"] == "private")
        repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.repositories[name] = repository
        return self.reply(200, {"url": f"{self.server.address}/{name}"})

    def lfs_action(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.server.objects:
            return asked
        return asked | {"actions": {"upload": {"href": f"{self.server.address}/lfs/{asked['oid']}"}}}

    def upload_mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith((".safetensors", ".onnx", ".data")) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        before = list(repository.commits)[-1]
        files = dict(repository.commits[before])
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    assert value.get("parentCommit") in (None, before)
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    assert value["oid"] in self.server.objects
                    files[value["path"]] = value["oid"]
                case "deletedFile":
                    del files[value["path"]]
        sha = repository.commit(files)
        self.reply(200, {"commitUrl": f"{self.server.address}/{name}/commit/{sha}", "commitOid": sha})
