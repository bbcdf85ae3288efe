"""Everything the tests share: no network, no W&B account, few threads, no pixels without need."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# While all is imported nothing is compiled, as in `opinionlm.utils.loading`; until `pytest_collection_finish`.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
# Without compiled files every process that a test starts would compile the whole package once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Imports and collection make a million objects that stay: looking for garbage among them takes a third of their time.
gc.disable()

sys.dont_write_bytecode = False

# A busy machine is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
# What a module of tests imports that starts processes from a fork server.
FORKED = {"ConsoleProcess", "Job", "in_two_processes", "training"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what forks first: one process of the tests has all of it, and one fork server, which imports everything."""
    items.sort(key=lambda item: FORKED.isdisjoint(vars(item.getparent(pytest.Module).obj)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later search for garbage: Trainer searches at each start."""
    del os.environ["TORCHDYNAMO_DISABLE"]
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep neighbours in one process, which shares what they prepare; who is done first takes tests from the other."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


@pytest.fixture(scope="session", autouse=True)
def undrawn_figures() -> None:
    """Leave figures undrawn, but in tests that use `drawn_figures` or `tests.drawing.drawn`."""
    from tests.drawing import draw_nothing

    draw_nothing()


@pytest.fixture(scope="session", autouse=True)
def unsynced_files() -> None:
    """No test survives a power cut: nobody waits until a file is on the disk, which a run does fifty times."""
    os.fsync = lambda descriptor: None


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> None:
    """Of every trained model a post or two are timed, not fifty alone and 512 in bulk, and in float32 alone.

    The time of two posts would choose the precision of answers by chance.
    """
    from opinionlm.inference import speed

    speed.SINGLE, speed.BULK = 1, 2
    speed.computes_in_bfloat16 = lambda: False


@pytest.fixture(scope="session", autouse=True)
def unlaunched_runs() -> None:
    """W&B's launcher started none of the runs here; looking for its inputs imports it, for four seconds."""
    if "wandb" in sys.modules:
        from wandb.sdk.wandb_run import Run

        Run._detect_and_apply_job_inputs = lambda run: None


@pytest.fixture
def drawn_figures(undrawn_figures: None) -> Iterator[None]:
    """Figures are drawn in this test."""
    from tests.drawing import drawn

    with drawn():
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real data (../shared/data) is not beside this checkout")
    return folder


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that every short run of the classifier shares: a tiny pretrained model and a small data set."""
    from tests.classifier_runs import write_setting

    return write_setting(tmp_path_factory.mktemp("setting"))
