"""While libraries load, Python does not look for garbage and torch does not compile; afterwards both do again."""

from __future__ import annotations

import gc
import os

import pytest

from opinionlm.utils.loading import freeze_once, libraries_loading


@pytest.fixture
def frozen(monkeypatch) -> list[int]:
    """How often everything was frozen; nothing truly is."""
    calls: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(1))
    freeze_once.cache_clear()
    return calls


def test_within_the_block_nobody_looks(frozen) -> None:
    assert gc.isenabled()
    with libraries_loading():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize("set_by_user", [None, "0"])
def test_within_the_block_nothing_is_compiled(frozen, monkeypatch, set_by_user) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("TORCHDYNAMO_DISABLE", set_by_user)
    before = dict(os.environ)
    with libraries_loading():
        assert os.environ["TORCHDYNAMO_DISABLE"] == (set_by_user or "1")
    assert dict(os.environ) == before


def test_what_libraries_print_is_dropped(frozen, capsys) -> None:
    with libraries_loading():
        print("[INFO] Running in WANDB offline mode")
    print("after")
    assert capsys.readouterr().out == "after\n"


def test_only_the_first_block_freezes(frozen) -> None:
    for _ in range(3):
        with libraries_loading():
            pass
    assert len(frozen) == 1


def test_what_was_off_stays_off_and_an_import_that_fails_changes_nothing(frozen) -> None:
    with pytest.raises(ImportError), libraries_loading():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with libraries_loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
