"""Saved models on the Hugging Face hub: one is sent there whole or not at all, and one is fetched from there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, one_line
from opinionlm.inference.arguments import best_of
from opinionlm.inference.saved_decision import ENSEMBLE
from opinionlm.inference.saved_generative import SETTINGS, read_settings
from opinionlm.utils.command_line import command
from opinionlm.utils.names import HUB_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

# What is fetched of a model: weights that hold no code, and text. Python files and pickles stay where they are.
FETCHED = ["*.json", "*.safetensors", "*.onnx", "*.onnx.data", "*.txt", "*.model", "*.jinja", "README.md"]
# Where our cards name the folder of the run, which means nothing to others.
OWN_PATH = re.compile(r"""(?:(?<=model=")[^"]+|(?<=--model )(?:'[^']*'|[^"\s`]+))""")


def push_model(model: Path, name: str, public: bool = False, overwrite: bool = False) -> str:
    """Upload a saved model with its card as one commit.

    Weights go first, file by file, and appear in the repository with the commit alone. What an interrupted upload has
    sent is not sent again.

    Args:
        model: folder of a run, of a saved model, or of an export.
        name: of the repository, ``user/model``; it is made where it is not there.
        public: whether everybody may read a new repository.
        overwrite: replace the model that the repository holds by a new commit.

    Returns:
        The address of the model.

    Raises:
        UserError: no saved model, no such account, a name that is taken, or the hub cannot be reached.
    """
    folder = saved_folder(model)
    with hub_errors(f"push: {name}", "give the same command again: what it has is not sent again"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi()
        found = free_repository(api, name, public, overwrite)
        if found is None:
            api.create_repo(name, private=not public)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        names = [path.relative_to(folder).as_posix() for path in files]
        contents = [named_card(path, name) if path.name == "README.md" else path for path in files]
        gone = [] if found is None else set(held_files(found)) - set(names)
        api.create_commit(
            name,
            [
                *(CommitOperationAdd(place, content) for place, content in zip(names, contents, strict=True)),
                *map(CommitOperationDelete, sorted(gone)),
            ],
            commit_message="Upload a model of opinionlm",
            parent_commit=None if found is None else found.sha,
        )
        return f"{api.endpoint}/{name}"


def require_pushable(name: str) -> None:
    """Refuse what would not come to be uploaded, before a model is trained.

    Raises:
        UserError: no such account, a name that is taken, or the hub cannot be reached.
    """
    with hub_errors(f"push_to_hub: {name}", "give the same command again"):
        from huggingface_hub import HfApi

        free_repository(HfApi(), name, public=False, overwrite=False)


def free_repository(api: HfApi, name: str, public: bool, overwrite: bool) -> ModelInfo | None:
    """The repository of that name, if it is there and may be written; an interrupted upload leaves an empty one.

    Raises:
        UserError: it is not the user's, holds a model already, or is not as public as it should be.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    if not HUB_NAME.fullmatch(name):
        raise UserError("no name of a repository; give owner and name, such as user/model")
    account = api.whoami()
    owners = [account["name"], *(one["name"] for one in account.get("orgs", []))]
    if name.partition("/")[0] not in owners:
        raise UserError(f"the token is that of {owners[0]}; give a name that begins with {' or '.join(owners)}")
    try:
        found = api.model_info(name)
    except RepositoryNotFoundError:
        return None
    if held_files(found) and not overwrite:
        raise UserError(
            f"the name is taken, a model is there; give another, or {command('push')} --overwrite to replace it"
        )
    if bool(found.private) is public:
        state, remedy = ("private", "leave out --public") if found.private else ("public", "add --public")
        raise UserError(f"the repository is there and {state}; {remedy}, or change that in its settings")
    return found


def held_files(found: ModelInfo) -> list[str]:
    """The files of a repository, apart from what the hub itself puts into every one."""
    return [one.rfilename for one in found.siblings or () if one.rfilename != ".gitattributes"]


def saved_folder(model: Path) -> Path:
    """The folder that is uploaded.

    Raises:
        UserError: there is none, or it holds no model.
    """
    folder = best_of(model)
    if not folder.is_dir():
        raise UserError(f"push: no such folder: {folder}; give that of a finished run, such as outputs/<run>")
    if (folder / ENSEMBLE).is_file():
        raise UserError(f"push: {folder} is an ensemble, which no single model stands for; push its members")
    if not any((folder / name).is_file() for name in ("config.json", SETTINGS)):
        raise UserError(f"push: {folder} holds no saved model; give the folder of a finished run, or of an export")
    base = read_settings(folder).base_model if (folder / SETTINGS).is_file() else None
    if base is not None and not is_on_hub(base):
        raise UserError(
            f"push: {folder} is an adapter of {base}, which is on this machine alone; merge it first: "
            f"{command('predict')} --model {folder} --merge <new folder>"
        )
    return folder


def named_card(path: Path, name: str) -> bytes:
    """A model card whose examples load the model from the hub."""
    return OWN_PATH.sub(name, path.read_text(encoding="utf-8")).encode()


def fetched(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a saved model: one of this machine as it is, one of the hub from the library's cache.

    Args:
        model: a folder, or ``user/model`` where there is no such folder.
        revision: branch, tag or commit of a model of the hub; by default its newest state.

    Raises:
        UserError: there is neither, or the hub cannot be reached.
    """
    if not is_on_hub(model):
        if revision is not None:
            raise UserError(
                f"--revision: {model} is a folder, and only models of the hub have revisions; leave it out"
            )
        return Path(model)
    with hub_errors(f"--model: no such folder: {model}; on the hub", "check the path, or give the same command again"):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(model), revision=revision, allow_patterns=FETCHED))


def is_on_hub(model: str | Path) -> bool:
    """Whether a model is no folder of this machine, and may be one of the hub by its name."""
    return not Path(model).exists() and HUB_NAME.fullmatch(str(model)) is not None


@contextmanager
def hub_errors(what: str, broken_off: str) -> Iterator[None]:
    """Say what went wrong in one line, with the remedy: the library hands on what its own libraries raise.

    Args:
        what: begins the line.
        broken_off: the remedy where the hub does not answer.

    Raises:
        UserError: in the place of whatever the block raises.
    """
    from huggingface_hub import constants, errors

    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
    except Exception as error:
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        if constants.HF_HUB_OFFLINE:
            remedy = "HF_HUB_OFFLINE is set, so that the hub is not asked; unset it"
        elif isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
            remedy = "there is no such model or revision that you may read; check the name, or log in: hf auth login"
        elif isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403):
            known = "it takes no such token" if status else "there is no token"
            remedy = f"{known}; hf auth login, or set HF_TOKEN to one that may write"
        else:
            endpoint = os.environ.get("HF_ENDPOINT", "the hub")
            remedy = f"{endpoint} cannot be reached or broke off ({one_line(error)}); {broken_off}"
        raise UserError(f"{what}: {remedy}") from error
