"""Records are written whole or not at all, read back as they were, and what can't be read is said in one message."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row
from triptych.errors import DataError, DiskError
from triptych.records import Aggregate, ItemScore
from triptych.records.store import (
    atomic_write,
    disk_errors,
    read_items,
    read_json,
    read_record,
    read_run,
    sweep,
    write_items,
    write_json,
    write_text,
)
from triptych.records.texts import read_rows_shown, read_tokens, write_rows, write_tokens

AGGREGATE = Aggregate(ppl_mean=2.5, ppl_corpus=2.25, ppl_geometric=2.0, bits_per_char=1.5, n_rows=3, n_tokens=40)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- writing


def test_a_new_file_comes_with_its_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "子曰")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "子曰".encode()
    assert files(tmp_path / "a" / "b") == ["c.txt"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_an_exception_leaves_the_old_file_and_nothing_beside_it(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(type(error)) as caught, atomic_write(path) as file:
        file.write(b"half of the n")
        raise error
    assert caught.value is error
    assert path.read_text() == "old"
    assert files(tmp_path) == ["record.json"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    program = (
        "import os, signal, sys, pathlib\n"
        "from triptych.records.store import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "can't be written to"),
        (errno.EROFS, "can't be written to"),
    ],
)
def test_what_the_disk_refuses_is_one_clear_error(
    number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match=message) as caught:
        write_text(path, "new")
    assert caught.value.exit_code == 2
    assert caught.value.where == str(path)
    assert caught.value.found == os.strerror(number)
    assert path.read_text() == "old"
    assert files(tmp_path) == ["record.json"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "record.json", tmp_path / "file" / "deeper" / "record.json"):
        with pytest.raises(DiskError, match="choose another folder"):
            write_text(path, "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(DiskError, match="can't be written to"):
        write_text(tmp_path / "record.json", "x")
    assert files(tmp_path) == ["record.json"]


def test_other_errors_of_the_system_are_not_called_a_full_disk() -> None:
    with pytest.raises(OSError, match="broken") as caught, disk_errors(Path("x")):
        raise OSError(errno.EIO, "broken")
    assert type(caught.value) is OSError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_refused(value: float, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": value})
    assert read_json(path) == {"a": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), json_values, max_size=4))
def test_json_round_trip(value: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    write_json(path, value)
    assert read_json(path) == value


def test_chinese_stays_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"prompt": "翻譯成文言文"})
    assert "翻譯成文言文" in (tmp_path / "a.json").read_text(encoding="utf-8")


# --- reading


def test_a_missing_record(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none.json", tmp_path / "no" / "folder.json", tmp_path / "file" / "results.json"):
        with pytest.raises(DataError, match="a record is missing") as caught:
            read_json(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b'{"a": 1}}', b"\xff\xfe\x00"])
def test_a_torn_record_says_how_to_go_on(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"torn or was edited[\s\S]*delete this file and run the same command"):
        read_json(path)


def test_a_record_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", AGGREGATE)
    assert read_record(tmp_path / "a.json", Aggregate) == AGGREGATE


@pytest.mark.parametrize("change", [{"ppl_mean": "much"}, {"ppl_mean": None}, {"surprise": 1}])
def test_a_record_of_another_shape_names_the_key(change: dict[str, object], tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {**AGGREGATE.model_dump(), **change})
    with pytest.raises(DataError, match="no Aggregate that this version") as caught:
        read_record(tmp_path / "a.json", Aggregate)
    assert str(caught.value.where).endswith(f"key {next(iter(change))}")


@pytest.mark.parametrize("value", [{}, {"schema_version": 999}, {"schema_version": "1"}])
def test_a_run_of_another_schema_is_refused_by_name(value: dict[str, object], tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", value)
    with pytest.raises(DataError, match=r"another schema[\s\S]*schema_version 1"):
        read_run(tmp_path)


def test_a_run_that_is_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="another schema"):
        read_run(tmp_path)


# --- rows


positive = st.floats(0, 1e4, allow_nan=False)
items = st.builds(
    ItemScore,
    id=st.text(min_size=1, max_size=8),
    nll_nats=positive,
    n_tokens=st.integers(100, 10_000),
    n_chars=st.integers(0, 10_000),
    n_prompt_tokens=st.integers(0, 10_000),
    n_demos=st.integers(0, 10),
    n_demos_dropped=st.integers(0, 10),
    demo_ids=st.lists(st.text(max_size=5), max_size=3).map(tuple),
)


@given(cells=st.dictionaries(st.text(min_size=1, max_size=20), st.lists(items, min_size=1, max_size=5), max_size=4))
def test_items_round_trip(cells: dict[str, list[ItemScore]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "items.parquet"
    write_items(path, cells)
    back = read_items(path)
    assert back == cells
    assert list(back) == list(cells)  # and the order


def test_items_are_a_table_that_others_can_read(tmp_path: Path) -> None:
    write_items(tmp_path / "items.parquet", {"zero_shot/default": [ItemScore("a", 3.0, 2, 1)]})
    table = pq.read_table(tmp_path / "items.parquet")
    [line] = table.to_pylist()
    assert line["cell"] == "zero_shot/default"
    assert line["ppl"] == math.exp(1.5)
    assert table.schema.metadata[b"schema_version"] == b"1"


@pytest.mark.parametrize("harm", ["half", "empty", "text", "column"])
def test_torn_items_are_rebuilt_by_the_same_command(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    write_items(path, {"c": [ItemScore("a", 3.0, 2, 1)]})
    content = path.read_bytes()
    if harm == "column":
        pq.write_table(pq.read_table(path).drop_columns(["n_tokens"]), path)
    else:
        path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "text": b"id,ppl\n"}[harm])
    with pytest.raises(DataError, match="run the same command again"):
        read_items(path)


def test_missing_items(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a record is missing"):
        read_items(tmp_path / "items.parquet")


def test_texts_round_trip(tmp_path: Path) -> None:
    rows = {"test": [Row("a", "問", "答"), Row("b", "問\n二", "")], "demo": [Row("a", "別", "的")]}
    write_rows(tmp_path / "rows.parquet", rows)
    expected = {role: {r.id: (r.instruction, r.output) for r in some} for role, some in rows.items()}
    assert read_rows_shown(tmp_path / "rows.parquet") == expected
    pieces = {"a": [("答", 3), ("", 1)], "b": [("", 1)]}
    write_tokens(tmp_path / "tokens.parquet", pieces, {"c/1": [[0.5, 1.5, 2.5, 3.5], [0.25]]})
    read = read_tokens(tmp_path / "tokens.parquet")
    assert read.pieces == pieces
    assert {row: nll.tolist() for row, nll in read.nll["c/1"].items()} == {"a": [0.5, 1.5, 2.5, 3.5], "b": [0.25]}


def test_texts_that_are_not_there_are_empty_and_torn_ones_an_error(tmp_path: Path) -> None:
    assert read_rows_shown(tmp_path / "rows.parquet") == {}
    assert read_tokens(tmp_path / "tokens.parquet").nll == {}
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="torn"):
        read_rows_shown(tmp_path / "rows.parquet")


def test_what_a_killed_writer_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    cells = tmp_path / "cells"
    cells.mkdir()
    dead = [tmp_path / f".run.lock.json.{gone.pid}.tmp", cells / f".a.json.{gone.pid}.tmp"]
    kept = [tmp_path / f".run.lock.json.{os.getpid()}.tmp", tmp_path / "notes.tmp", tmp_path / ".notes.tmp"]
    for path in (*dead, *kept):
        path.write_text("half")
    sweep(tmp_path)
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in kept)
