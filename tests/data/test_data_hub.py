"""Hub data sets, with a stand-in for the package `datasets`: no network in tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from triptych.data import Row, load_dataset, read_rows
from triptych.data import hub as hub_module
from triptych.errors import DataError

REAL_CONNECTS = hub_module._connects


class FakeSplit(list[dict[str, Any]]):
    @property
    def column_names(self) -> list[str]:
        return list(self[0])


SPLITS = {
    "train": FakeSplit([{"id": 1, "instruction": "a", "output": "x"}, {"id": 2, "instruction": "b", "output": "y"}]),
    "test": FakeSplit([{"id": 1, "instruction": "c", "output": "z"}]),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, FakeSplit]]:
    stored = {"owner/pairs": SPLITS, "owner/one": {"train": SPLITS["train"]}, "owner/math:main": SPLITS}
    configurations = {"owner/math": ["main", "socratic"], "owner/pairs": ["default"], "owner/one": ["default"]}

    def load(name: str, configuration: str = "") -> dict[str, FakeSplit]:
        return stored[f"{name}:{configuration}" if configuration else name]

    library = SimpleNamespace(load_dataset=load, get_dataset_config_names=configurations.__getitem__)
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("triptych.data.hub._connects", lambda host, port: None)
    monkeypatch.chdir(tmp_path)
    return stored


@pytest.mark.usefixtures("hub")
def test_a_split_is_read() -> None:
    assert read_rows("owner/pairs:test") == [Row("1", "c", "z")]
    assert [row.id for row in read_rows("owner/one")] == ["1", "2"]


@pytest.mark.usefixtures("hub")
def test_splits_that_are_not_there_or_not_named() -> None:
    with pytest.raises(DataError, match="several splits") as caught:
        read_rows("owner/pairs")
    assert caught.value.fix == "write the split after a colon: owner/pairs:train"
    with pytest.raises(DataError, match="no split 'dev'") as caught:
        read_rows("owner/pairs:dev")
    assert caught.value.found == "the splits 'train', 'test'"


@pytest.mark.usefixtures("hub")
def test_a_configuration() -> None:
    assert read_rows("owner/math:main:test") == [Row("1", "c", "z")]
    with pytest.raises(DataError, match="several splits") as caught:
        read_rows("owner/math:main")
    assert caught.value.fix == "write the split after a colon: owner/math:main:train"
    for source, what in (("owner/math", "none is named"), ("owner/math:test", "no configuration 'test'")):
        with pytest.raises(DataError, match=what) as caught:
            read_rows(source)
        assert caught.value.found == "the configurations 'main', 'socratic'"
        assert "owner/math:main:train" in (caught.value.fix or "")


@pytest.mark.usefixtures("hub")
def test_without_a_network_the_answer_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.data.hub._connects", REAL_CONNECTS)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    begin = time.monotonic()
    with pytest.raises(DataError, match="the hub can't be reached") as caught:
        read_rows("owner/math:main:test")
    assert time.monotonic() - begin < 5
    assert "127.0.0.1" in (caught.value.found or "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_rows("owner/math:main:test")


@pytest.mark.usefixtures("hub")
def test_a_data_set_the_hub_does_not_give() -> None:
    with pytest.raises(DataError, match="could not give") as caught:
        read_rows("owner/none")
    assert "KeyError" in (caught.value.found or "")
    assert caught.value.where == "owner/none"


@pytest.mark.usefixtures("hub")
def test_a_file_goes_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "owner").mkdir()
    with pytest.raises(DataError, match="there is no such file\n"):
        read_rows("owner/pairs")  # a typing error in a path to a folder that is there
    with pytest.raises(DataError, match="there is no such file\n"):
        read_rows("nobody/train.json")
    with pytest.raises(DataError, match="there is no such file\n"):
        read_rows(Path("elsewhere/pairs"))


@pytest.mark.usefixtures("hub")
def test_a_hub_data_set_in_an_experiment() -> None:
    data = load_dataset(train="owner/pairs:train", test="owner/pairs:test", folder=None, train_rows=1, test_rows=None)
    assert len(data.train) == 1
    assert data.files["train"]["path"] == "owner/pairs:train"
    assert len(data.files["train"]["sha256"]) == 64
    assert data.files["train"]["sha256"] != data.files["test"]["sha256"]


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError) as caught:
        read_rows("owner/pairs:train")
    assert "pip install 'triptych[hub]'" in (caught.value.fix or "")
    assert caught.value.where == "owner/pairs:train"
