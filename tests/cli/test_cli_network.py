"""No command opens a connection when models and data are files: only a hub that was named is asked."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

Triptych = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every address that was asked for, with the hub's library thinking that it is online; none is reached."""
    from huggingface_hub import constants

    seen: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        seen.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the hub's library tries again and again
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return seen


def test_files_alone_open_no_connection(
    asked: list[object], triptych: Triptych, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.records.store import read_run
    from triptych.runner import live, results

    monkeypatch.setattr(results, "build_report", lambda folder, *_, **__: read_run(folder))  # most of the time
    monkeypatch.setattr(live, "build_so_far", lambda *_: None)
    data, out = ["--data", project.test], project.folder / "out"
    few = [part for key in ("few_shot", "qlora") for part in ("--set", f"strategies.{key}=null")]
    for arguments in (
        ["score", *project.given(), *data, "--no-cache", "--out", out / "s.json"],
        ["predict", *project.given(), *data, "--max-new-tokens", 2, "--out", out / "p.json"],
        ["plan", project.config],
        ["preview", project.config],
        ["data", "check", project.train, project.test],
        ["run", project.config, *few, "--out", out / "run"],
        ["report", out / "run"],
    ):
        done = triptych(*arguments)
        assert done.code == 0, (arguments[0], done.err)
        assert asked == [], arguments[0]


def test_a_hub_that_was_named_is_asked(asked: list[object], triptych: Triptych, project: Any) -> None:
    done = triptych("score", "--model", "owner/name", "--data", project.test, "--out", project.folder / "s.json")
    assert done.code == 2
    assert asked  # so the test above would have seen it
