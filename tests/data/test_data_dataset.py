"""Train, dev and test of one experiment, and what is recorded about their files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from triptych.data import Dataset, Row, load_dataset, sample_folder
from triptych.errors import DataError
from triptych.records.disk import sha256_of_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.json", [("r0", "問零", "答零"), *((f"r{n}", f"問{n}", f"答{n}") for n in range(1, 20))])
    write(tmp_path / "test.json", [(f"r{n}", f"試{n}", f"答{n}") for n in range(6)])  # ids as in train: that is fine
    write(tmp_path / "leak.json", [("a", "問1", "答1"), ("b", "問2。", "答"), ("c", "試", "答")])
    return tmp_path


def write(path: Path, rows: list[tuple[str, str, str]]) -> None:
    objects = [dict(zip(("id", "instruction", "output"), row, strict=True)) for row in rows]
    path.write_text(json.dumps(objects), encoding="utf-8")


def load(folder: Path | str | None, **settings: Any) -> Dataset:
    return load_dataset(
        **{"train": "train.json", "test": "test.json", "train_rows": None, "test_rows": None} | settings, folder=folder
    )


def test_everything_by_default(folder: Path) -> None:
    data = load(folder)
    assert (len(data.train), data.dev, len(data.test)) == (20, (), 6)
    assert data.train[0] == Row("r0", "問零", "答零")
    assert data.warnings == ()
    assert data.overlapping_train_ids == frozenset()


def test_what_is_recorded_about_the_files(folder: Path) -> None:
    data = load(folder, train_rows=5, test_rows=2, dev_rows=3)
    sha256 = hashlib.sha256((folder / "train.json").read_bytes()).hexdigest()
    path = str(folder / "train.json")
    of_file = {"path": path, "sha256": sha256, "format": "json, triptych (instruction -> output)", "n_rows": 20}
    assert data.files["train"] == {**of_file, "n_rows_used": 5}
    assert data.files["dev"] == {**of_file, "n_rows_used": 3}
    assert data.files["test"]["n_rows_used"] == 2
    assert data.files["test"]["sha256"] == sha256_of_file(folder / "test.json")
    json.dumps(data.files)


def test_test_rows_are_the_first(folder: Path) -> None:
    assert [row.id for row in load(folder, test_rows=2).test] == ["r0", "r1"]


def test_more_test_rows_than_there_are_is_a_warning(folder: Path) -> None:
    data = load(folder, test_rows=7)
    assert len(data.test) == 6
    assert data.warnings == (f"7 test rows were asked for; {folder / 'test.json'} has 6 and all of them are used",)


def test_dev_stays_the_same_when_train_rows_change_and_train_is_nested(folder: Path) -> None:
    small, large = (load(folder, train_rows=n, dev_rows=4, seed=1) for n in (5, 10))
    assert small.dev == large.dev
    assert set(small.train) < set(large.train)
    assert not set(large.train) & set(large.dev)
    assert load(folder, dev_rows=4, seed=2).dev != small.dev


@pytest.mark.parametrize(
    ("settings", "setting"),
    [({"train_rows": 21}, "train_rows 21"), ({"dev_rows": 20}, "dev_rows 20"), ({"test_rows": 0}, "test_rows 0")],
)
def test_an_impossible_number_of_rows_names_file_and_setting(
    folder: Path, settings: dict[str, int], setting: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(folder, **settings)
    assert setting in (caught.value.where or "")
    assert ".json" in (caught.value.where or "")
    assert caught.value.found
    assert caught.value.fix


def test_one_file_is_enough(folder: Path) -> None:
    data = load(folder, train=None)
    assert (data.train, len(data.test), set(data.files)) == ((), 6, {"test"})
    data = load(folder, test=None, test_rows=3)
    assert (len(data.train), data.test, data.warnings, set(data.files)) == (20, (), (), {"train"})


@pytest.mark.parametrize("settings", [{"train_rows": 3}, {"dev_rows": 3}])
def test_train_settings_without_a_train_file(folder: Path, settings: dict[str, int]) -> None:
    with pytest.raises(DataError, match="no file named"):
        load(folder, train=None, **settings)


def test_no_file_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no data is named") as caught:
        load(folder, train=None, test=None)
    assert caught.value.where == str(folder)
    assert "sample" in (caught.value.fix or "")
    with pytest.raises(DataError, match="no data is named"):
        load(None, train=None, test=None)


def test_overlap_is_a_warning(folder: Path) -> None:
    data = load(folder, test="leak.json")
    assert data.overlapping_train_ids == {"r1", "r2"}
    assert len(data.warnings) == 1
    assert data.warnings[0].startswith("2 of 3 test rows occur in train (1 exactly, 1 after normalising)")
    assert len(data.train) == 20


def test_overlap_is_an_error_where_data_is_read_strictly(folder: Path) -> None:
    with pytest.raises(DataError, match="test rows occur in train") as caught:
        load(folder, test="leak.json", strict=True)
    assert caught.value.where == f"{folder / 'train.json'} and {folder / 'leak.json'}"
    assert "test a = train r1" in (caught.value.found or "")
    assert "remove these rows" in (caught.value.fix or "")
    assert load(folder, strict=True).warnings == ()


def test_overlap_with_dev_counts_too(folder: Path) -> None:
    data = load(folder, test="train.json", dev_rows=5)
    assert data.overlapping_train_ids == {row.id for row in data.train + data.dev}
    assert len(data.overlapping_train_ids) == 20


def test_an_absolute_path_leaves_the_folder_aside(folder: Path) -> None:
    assert load("/elsewhere", train=folder / "train.json", test=str(folder / "test.json")) == load(folder)


def test_the_word_sample_is_the_bundled_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("triptych.data.dataset.sample_folder", lambda _: folder)
    data = load("sample", train=None, test=None)
    assert data.files["train"]["path"] == str(Path("sample/train.json"))
    assert (len(data.train), len(data.test)) == (20, 6)
    assert load("sample", test="leak.json").warnings


def test_sample_folder_is_inside_the_package() -> None:
    assert sample_folder().is_dir()
    assert sample_folder().parts[-2:] == ("data", "sample")


def test_importing_data_leaves_torch_unloaded() -> None:
    code = "import sys, triptych.data; print([n for n in ('torch', 'transformers', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
