"""Nothing that a terminal would obey reaches it from rows, names or files, and no encoding stops a command."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

EVIL = "\x1b]0;own\x07\x1b[31m\u202e[red]\x9b2J\u2066"
"""A title, a colour, a direction, rich's markup, a C1 control, an isolate: all that a row or a name may hold."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object, encoding: str = "utf-8") -> Done:
    """`triptych ARGUMENTS` with strict streams of an encoding, as a shell gives them."""
    from triptych.cli.main import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(sys, "argv", ["triptych", *map(str, arguments)])
        stack.enter_context(contextlib.redirect_stdout(streams[0]))
        stack.enter_context(contextlib.redirect_stderr(streams[1]))
        with pytest.raises(SystemExit) as ended:
            main()
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    assert isinstance(ended.value.code, int), err
    return Done(ended.value.code, out, err)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out figures and Markdown, which are most of a tiny run's time."""
    from triptych.records.store import read_run
    from triptych.runner import live, results

    monkeypatch.setattr(results, "build_report", lambda folder, *_, **__: read_run(folder))
    monkeypatch.setattr(live, "build_so_far", lambda *_: None)


@pytest.fixture
def evil(project: Any) -> Any:
    """The project in a folder, with files, rows, a prompt and a model of such names."""
    folder = project.folder / EVIL
    shutil.copytree(project.model, folder / "model")
    for name in ("train", "test"):
        rows = [{"id": f"{name}{i}{EVIL}\x00", "instruction": f"問{i} {EVIL}\x00", "output": EVIL} for i in range(3)]
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "prompt.txt").write_text(f"{EVIL} {{instruction}}", encoding="utf-8")
    config = yaml.safe_load(project.config.read_text(encoding="utf-8"))
    config["model"]["name"] = str(folder / "model")
    config["prompts"] = {f"own{EVIL}": "譯 {instruction}"}
    config["strategies"] = {"zero_shot": {"prompts": [f"own{EVIL}"]}, "few_shot": None, "qlora": None}
    (folder / "exp.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return project._replace(
        folder=folder,
        model=folder / "model",
        train=folder / "train.json",
        test=folder / "test.json",
        config=folder / "exp.yaml",
    )


def commands(evil: Any) -> dict[str, list[object]]:
    data = ["--data", evil.test]
    return {
        "data check": ["data", "check", evil.train, evil.test],
        "data check --json": ["data", "check", evil.train, evil.test, "--json"],
        "plan": ["plan", evil.config],
        "plan --json": ["plan", evil.config, "--json"],
        "preview": ["preview", evil.config],
        "preview --json": ["preview", evil.config, "--json"],
        "prompts show": ["prompts", "show", evil.folder / "prompt.txt"],
        "score": ["score", *evil.given(), *data, "--no-cache", "--out", evil.folder / "s.json"],
        "predict": ["predict", *evil.given(), *data, "--max-new-tokens", 2, "--out", evil.folder / "p.json"],
        "config init": ["config", "init", "--train", evil.folder / "no.json", "--out", evil.folder / "new.yaml"],
        "run": ["run", evil.config, "--out", evil.folder / "run"],
        "an error": ["score", *evil.given(), *data, "--max-tokens", 20, "--out", evil.folder / "s.json"],
        "no such file": ["score", *evil.given(), "--data", evil.folder / "no.json", "--out", evil.folder / "s.json"],
        "a wrong option": ["score", f"--{EVIL}"],
        "a mistake in the settings": ["plan", evil.config, "--set", f"{EVIL}=1"],
    }


def texts_in(value: Any) -> Iterator[str]:
    """Every text of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_command_writes_what_a_terminal_obeys(evil: Any, encoding: str) -> None:
    asked = commands(evil)
    for name in asked if encoding == "utf-8" else ("data check", "plan", "preview --json", "prompts show", "an error"):
        arguments = asked[name]
        done = run(*arguments, encoding=encoding)
        for text in (done.out, done.err):
            assert not OBEYED.search(text), (name, text)
        assert done.code in (0, 2), (name, done.err)
        assert done.code == 2 or name not in ("an error", "no such file", "a wrong option")
        if name.endswith("--json"):  # escaped as JSON does it: read back as it was
            assert any(EVIL in text for text in texts_in(json.loads(done.out)))
        elif name != "preview":
            assert "\\x1b" in done.out + done.err, (name, done)
        if name in ("prompts show", "no such file"):
            assert "[red]" in done.out + done.err, (name, done)  # not taken for markup
    if encoding == "ascii":
        return
    log = (evil.folder / "run" / "run.log").read_text(encoding="utf-8")
    assert not OBEYED.search(log)
    assert "\\x1b" in log


def test_reports_of_such_a_run(evil: Any) -> None:
    assert run("run", evil.config, "--out", evil.folder / "run").code == 0
    done = run("report", evil.folder / "run")
    assert done.code == 0
    assert not OBEYED.search(done.out)
    assert "own\\x1b]0;own\\x07" in "".join(done.out.split())


@pytest.mark.parametrize("name", ["plan", "preview"])
def test_an_output_that_is_not_utf_8_stops_nothing(name: str, project: Any) -> None:
    done = run(name, project.config, encoding="ascii")
    assert done.code == 0, done.err
    assert "\\u2713" in done.out  # the sign of what is well


def test_python_calls_print_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    from triptych.console import ConsoleReporter

    ConsoleReporter().info(f"said {EVIL}")
    printed = capsys.readouterr().out
    assert not OBEYED.search(printed)
    assert "\\u202e[red]" in printed


def test_progress_titles_and_messages_are_escaped() -> None:
    from triptych.console import ConsoleReporter
    from triptych.terminal import new_console

    out = io.StringIO()
    reporter = ConsoleReporter(new_console(file=out, force_terminal=True, color_system=None, width=200))
    with reporter.task(f"cell {EVIL}", 2) as advance:
        reporter.info(f"said {EVIL}")
        advance(2)
    written = out.getvalue()
    assert "\x1b]" not in written  # rich moves the cursor, and nothing else is obeyed
    assert "\x1b[31m" not in written
    assert "\x07" not in written
    assert "\\u202e[red]" in written


def test_where_there_is_no_terminal_what_is_printed_fits_any_encoding() -> None:
    from triptych.console import ConsoleReporter

    seconds = iter((0, 0, 31, 31, 31, 31, 31, 31, 31))
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(ascii_only):
        reporter = ConsoleReporter(clock=lambda: next(seconds))
        with reporter.task(f"cell {EVIL}", 2) as advance:
            advance(1)
            reporter.info(f"said 春 {EVIL}")
    printed = ascii_only.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    line, said = printed.splitlines()
    assert line.startswith("cell \\x1b")
    assert said.startswith("said \\u6625 ")
    assert not OBEYED.search(printed)


def test_librarys_warnings_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    from triptych.terminal import LogFormatter, open_streams

    open_streams()
    assert logging.lastResort is not None
    record = logging.LogRecord("a", logging.WARNING, "", 0, "first %s\n2026-01-01 INFO done", (EVIL,), None)
    logging.lastResort.handle(record)
    assert not OBEYED.search(capsys.readouterr().err)
    assert "\n    2026-01-01 INFO done" in LogFormatter("%(message)s").format(record)  # forges no line of a log


def test_every_control_and_direction_mark_is_escaped_and_nothing_else() -> None:
    from triptych.terminal import shown

    for code in range(0x11000):
        character = chr(code)
        bidirectional = unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI"}
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or bidirectional:
            assert (shown(character) == character) == (character in "\n\t"), hex(code)
        elif unicodedata.category(character) != "Cf":
            assert shown(character) == character, hex(code)
    assert shown("文言\u200d[red]\\x1b") == "文言\u200d[red]\\x1b"
    assert shown("\x1b\u202e\U000e0041\ud800") == "\\x1b\\u202e\\U000e0041\\ud800"
