"""Fetch the files of shipped data sets into data/, from where their dataset YAMLs say that they are to be had.

    opinionlm get_data cryptoqa
    opinionlm get_data acl_arc goemotions wnut17
    opinionlm get_data path/to/my_dataset.yaml --data_dir elsewhere

Licence and size are said before anything is fetched. An interrupted download goes on where it stopped; where the YAML
knows a SHA-256, the file is checked by it. Data sets of the Hugging Face hub go into the hub's own cache (HF_HOME).
"""

from __future__ import annotations

import os
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from opinionlm.data.spec import DatasetSpec, FileSpec, HubSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError, one_line, run_script
from opinionlm.utils.command_line import Parser, command
from opinionlm.utils.files import file_sha256

CHUNK, TIMEOUT_SECONDS = 2**16, 30
# What the hub's library calls offline.
OFFLINE = ("1", "ON", "YES", "TRUE")
NOT_SATISFIABLE = 416


def main(argv: list[str] | None = None) -> None:
    """Fetch the data sets that the command line names."""
    parser = Parser(__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="name in configs/datasets, or a dataset YAML")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), metavar="FOLDER", help="for the files [data]")
    arguments = parser.parse(argv)
    for name in arguments.datasets:
        get_data(load_spec(name), arguments.data_dir)


def get_data(spec: DatasetSpec, data_dir: Path) -> None:
    """Make sure that the files of a data set are in a folder, or its hub data set in the cache.

    Raises:
        UserError: nothing says where it is to be had, there is no network, or something else came than was expected.
    """
    missing = [file for file in spec.files if not (data_dir / file.path).is_file()]
    for file in spec.files:
        if file not in missing:
            print(f"{check(data_dir / file.path, file)} is there")
    if spec.files and not missing:
        return
    if unknown := [file.path for file in missing if not file.url]:
        if spec.hub is None:
            made = f"; {spec.origin}" if spec.origin else ""
            raise UserError(
                f"{spec.source}: no address is known for {', '.join(unknown)}{made}; put the files into "
                f"{data_dir} if you have them"
            )
        missing = []
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in OFFLINE:
        raise UserError(f"{spec.source}: HF_HUB_OFFLINE is set, so that nothing is fetched; unset it")
    print(f"{spec.name}: {spec.description}\nlicence: {spec.licence or 'none is stated'}", flush=True)
    for file in missing:
        fetch(file, data_dir / file.path)
    if not missing and spec.hub is not None:
        fetch_hub(spec.hub)
    print(f"next: {command('preprocess')} --config {spec.source} --data_dir {data_dir}")


def fetch(file: FileSpec, path: Path) -> None:
    """Download one file; what came before an interruption is kept beside it, in ``<name>.part``.

    Raises:
        UserError: it cannot be had, broke off, or is not the file that its checksum is of.
    """
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_from(file.url, part) as response:
            receive(response, part, path)
    except (URLError, HTTPException, OSError) as error:
        # Of an error in the connection the reason says more than the whole.
        reason = " ".join(str(getattr(error, "reason", "") or error).split()) or type(error).__name__
        raise UserError(
            f"{file.url}: cannot be fetched ({reason}); check the network and give the same command again, or put the "
            f"file to {path} yourself"
        ) from None
    check(part, file)
    part.replace(path)
    print(f"{path} is there" + (" and has the right SHA-256" if file.sha256 else ""))


def open_from(url: str, part: Path) -> HTTPResponse:
    """The answer to a request for what is not in the part yet; for all of it, where the server gives no parts."""
    have = part.stat().st_size if part.is_file() else 0
    try:
        headers = {"Range": f"bytes={have}-"} if have else {}
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != NOT_SATISFIABLE:
            raise
        # The part is no beginning of the file.
        part.unlink()
        return open_from(url, part)
    return response


def receive(response: HTTPResponse, part: Path, path: Path) -> None:
    """Write what an answer holds to the end of the part, or in its place.

    Raises:
        UserError: the answer broke off.
    """
    from opinionlm.utils.progress import progress_bar

    have = part.stat().st_size if response.status == 206 else 0
    length = response.headers.get("Content-Length")
    total = None if length is None else have + int(length)
    size = "unknown size" if total is None else f"{total / 1e6:,.1f} MB"
    print(f"{path}: {size} from {response.url}" + (f", {have / 1e6:,.1f} MB are there" if have else ""), flush=True)
    with (
        part.open("ab" if have else "wb") as target,
        progress_bar(desc=path.name, total=total, initial=have, unit="bytes") as bar,
    ):
        while block := response.read(CHUNK):
            target.write(block)
            bar.update(len(block))
    if total is not None and (found := part.stat().st_size) < total:
        raise UserError(
            f"{response.url}: broke off at {found:,} of {total:,} bytes; the same command goes on from there"
        )


def check(path: Path, file: FileSpec) -> Path:
    """The path, of a file that is what the YAML expects as far as it knows.

    Raises:
        UserError: it has another checksum.
    """
    if not file.sha256:
        return path
    if (found := file_sha256(path)) != file.sha256:
        if path.suffix == ".part":
            path.unlink()
        raise UserError(
            f"{path}: its SHA-256 is {found}, not {file.sha256}, so it is not the file that was published; remove it "
            "and give the same command again, or use a dataset YAML without sha256 for a file of your own"
        )
    return path


def fetch_hub(hub: HubSpec, endpoint: str | None = None) -> None:
    """Have the hub's library put a data set into its cache.

    Raises:
        UserError: it cannot be had.
    """
    # Imported late, so that --help answers at once.
    from huggingface_hub import HfApi

    from opinionlm.data.readers.hub import read_hub
    from opinionlm.data.readers.records import SourceNotes

    try:
        info = HfApi(endpoint).dataset_info(hub.path, revision=hub.revision, files_metadata=True)
    except Exception as error:
        # The library hands on what its own libraries raise.
        raise UserError(f"hub data set {hub.path!r}: {one_line(error)}; check the name and the network") from None
    size = sum(one.size or 0 for one in info.siblings or ())
    print(f"hub {hub.path}: at most {size / 1e6:,.1f} MB, into the cache of the hub's library", flush=True)
    for split in hub.splits.values():
        next(read_hub(hub, split, SourceNotes()), None)
    print(f"hub {hub.path}: {', '.join(hub.splits.values())} are there")


if __name__ == "__main__":
    run_script(main)
