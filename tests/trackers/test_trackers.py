"""What trackers get, that it is sent once, and that a broken one costs a run nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import ConfigError
from triptych.progress import Silent
from triptych.records import Aggregate, CellRecord, CurvePoint, RunRecord
from triptych.trackers.kinds import Tracker
from triptych.trackers.trackers import Trackers, check_trackers


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


class Fake(Tracker):
    """A tracker that remembers, and fails from the `breaks`-th call on."""

    def __init__(self, known: str | None, *, breaks: int | None = None) -> None:
        self.known, self.id, self.breaks = known, known or "made-up", breaks
        self.got: list[tuple[Any, ...]] = []
        self.closed = False

    def _take(self, *what: Any) -> None:
        if self.breaks is not None and len(self.got) >= self.breaks:
            raise ConnectionError("no route\nto host")
        self.got.append(what)

    def config(self, settings: Mapping[str, str]) -> None:
        self._take("config", dict(settings))

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        self._take("numbers", dict(values), step, axis)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._take("table", name, list(columns), [list(row) for row in rows])

    def files(self, paths: Sequence[Path]) -> None:
        self._take("files", [path.name for path in paths])

    def close(self) -> None:
        self.closed = True


def average(ppl: float) -> Aggregate:
    return Aggregate(ppl_mean=ppl, ppl_corpus=ppl, ppl_geometric=ppl, bits_per_char=1.0, n_rows=2, n_tokens=9)


def cell(name: str, ppl: float) -> CellRecord:
    return CellRecord(
        cell=name, strategy="zero_shot", prompt="default", prompt_sha256="0", aggregate=average(ppl), seconds=1.0
    )


def point(step: int, ppl: float) -> CurvePoint:
    loss = 2.5 if step else None
    return CurvePoint(
        step=step, epoch=0, rows_seen=0, split="test", aggregate=average(ppl), train_loss=loss, lr=1e-4, seconds=1.0
    )


def line(step: int) -> dict[str, float]:
    return {"step": step, "loss": 3.0 - step / 10, "lr": 0.001 * step, "grad_norm": 0.5, "seconds": 1.0}


def write_log(folder: Path, steps: int) -> Path:
    path = folder / "tune" / "log.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line(n)) + "\n" for n in range(1, steps + 1)))
    return path


def a_run(folder: Path, *cells: CellRecord) -> RunRecord:
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "tables" / "study.csv").write_text("setting,ppl_mean\nzero-shot,5.5\n")
    (folder / "report.md").write_text("# The answer\n")
    return RunRecord(
        name="made-up",
        cells=cells,
        few_shot=(),
        curve=(),
        comparisons=(),
        tune=None,
        prompts={},
        warnings=(),
        provenance={},
    )


def with_fake(folder: Path, heard: Heard, **options: Any) -> tuple[Trackers, list[Fake]]:
    made: list[Fake] = []

    def opens(known: str | None) -> Fake:
        made.append(Fake(known, **options))
        return made[-1]

    trackers = Trackers(["wandb"], folder, title="made-up", reporter=heard, opens={"wandb": opens})
    return trackers, made


def steps_of(fake: Fake) -> list[int]:
    return [what[2] for what in fake.got if what[0] == "numbers" and "train/loss" in what[1]]


def test_a_run_that_goes_on_sends_no_point_twice(tmp_path: Path) -> None:
    heard = Heard()
    first, one = with_fake(tmp_path, heard)
    first.config({"model.name": "demo", "tune.epochs": "2"})
    first.cell(cell("zero_shot/default", 5.5))
    first.points([point(0, 9.0)], log=write_log(tmp_path, 0))
    first.points([point(0, 9.0), point(4, 7.0)], log=write_log(tmp_path, 4))
    first.close()  # interrupted here; the checkpoint is of step 2, so 3 and 4 are done again

    second, two = with_fake(tmp_path, heard)
    second.config({"model.name": "demo", "tune.epochs": "2"})
    second.points([point(0, 9.0), point(4, 7.0)], log=write_log(tmp_path, 4))
    second.points([point(0, 9.0), point(4, 7.0), point(8, 6.0)], log=write_log(tmp_path, 8))
    second.finish(a_run(tmp_path, cell("zero_shot/default", 5.5), cell("qlora/default", 3.4)))

    assert one[0].got[0] == ("config", {"model.name": "demo", "tune.epochs": "2"})
    assert steps_of(one[0]) == [1, 2, 3, 4]
    assert [fake.known for fake in two] == ["made-up"]  # the same run of the tracker's
    assert not [what for what in two[0].got if what[0] == "config"]
    assert steps_of(two[0]) == [5, 6, 7, 8]
    every = [what for fake in (*one, *two) for what in fake.got if what[0] == "numbers"]
    curve = [what[2] for what in every if "curve/test/ppl_mean" in what[1]]
    assert curve == [0, 4, 8]
    named = [name for what in every for name in what[1] if name.startswith("cells/") and name.endswith("/ppl_mean")]
    assert sorted(named) == ["cells/qlora/default/ppl_mean", "cells/zero_shot/default/ppl_mean"]
    assert two[0].got[-2:] == [
        ("table", "study", ["setting", "ppl_mean"], [["zero-shot", "5.5"]]),
        ("files", ["report.md", "tables"]),
    ]
    assert all(fake.closed for fake in (*one, *two))
    assert heard.lines == []

    third, three = with_fake(tmp_path, heard)  # the same command again: nothing is left to send, nothing is opened
    third.finish(a_run(tmp_path, cell("zero_shot/default", 5.5), cell("qlora/default", 3.4)))
    assert three == []


def test_trainings_have_names_and_steps_of_their_own(tmp_path: Path) -> None:
    trackers, made = with_fake(tmp_path, Heard())
    trackers.points([point(0, 9.0)], log=write_log(tmp_path, 2))
    trackers.points([point(0, 8.0)], log=write_log(tmp_path, 2), training="k=3")
    trackers.close()
    axes = [(what[2], what[3]) for what in made[0].got if what[3] and what[3].endswith("train/step")]
    assert axes == [
        (1, "train/step"),
        (2, "train/step"),
        (1, "k=3/train/step"),
        (2, "k=3/train/step"),
    ]


@pytest.mark.parametrize("breaks", [0, 3])
def test_a_tracker_that_fails_is_said_once_and_dropped(breaks: int, tmp_path: Path) -> None:
    heard = Heard()
    trackers, made = with_fake(tmp_path, heard, breaks=breaks)
    for number in range(6):
        trackers.cell(cell(f"cell-{number}", 5.0))
    trackers.finish(a_run(tmp_path))
    assert heard.lines == ["warning: the tracker wandb failed and is dropped: ConnectionError: no route to host"]
    assert len(made) == 1
    assert len(made[0].got) == breaks


def test_a_tracker_whose_state_can_not_be_written_is_dropped(tmp_path: Path) -> None:
    heard = Heard()
    trackers, made = with_fake(tmp_path, heard)
    (tmp_path / "trackers").write_text("a file where the folder would be")
    trackers.cell(cell("a", 5.0))
    trackers.finish(a_run(tmp_path))
    assert [fake.got for fake in made] == [[]]
    assert len(heard.lines) == 1
    assert "the tracker wandb failed and is dropped" in heard.lines[0]


@pytest.mark.parametrize(
    "content", ["[1]", '{"id": 3, "series": [1]}', '{"id": "x", "series": {"cells/a": "no"}}', "{"]
)
def test_a_state_that_makes_no_sense_stops_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "wandb.json").write_text(content)
    heard = Heard()
    trackers, _ = with_fake(tmp_path, heard)
    trackers.cell(cell("a", 5.0))
    trackers.close()
    assert len(heard.lines) <= 1


def test_one_that_fails_leaves_the_others(tmp_path: Path) -> None:
    heard, good = Heard(), Fake(None)

    def broken(_: str | None) -> Fake:
        raise SystemExit("please log in")

    trackers = Trackers(
        ["mlflow", "wandb"], tmp_path, title="x", reporter=heard, opens={"mlflow": broken, "wandb": lambda _: good}
    )
    trackers.cell(cell("a", 5.0))
    trackers.close()
    assert len(good.got) == 1
    assert heard.lines == ["warning: the tracker mlflow failed and is dropped: SystemExit: please log in"]


def test_no_tracker_does_nothing_at_all(tmp_path: Path) -> None:
    trackers = Trackers([], tmp_path, title="x", reporter=Heard())
    trackers.config({"a": "1"})
    trackers.points([point(0, 9.0)], log=tmp_path / "none")
    trackers.cell(cell("a", 5.0))
    trackers.finish(a_run(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'triptych\[trackio\]'"):
        check_trackers(["trackio"])
    with pytest.raises(ConfigError, match="the tracker trackio is not installed"):
        Trackers(["trackio"], tmp_path, title="x", reporter=Heard())
    assert list(tmp_path.iterdir()) == []


def events(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    """All scalars and texts in TensorBoard's own files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    scalars: dict[str, list[tuple[int, float]]] = defaultdict(list)
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("events.out.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value if event.HasField("summary") else ():
                array = make_ndarray(value.tensor)
                if array.dtype == object:
                    texts[value.tag] = array.reshape(-1)[0].decode()
                else:
                    scalars[value.tag].append((event.step, float(array)))
    return scalars, texts


def test_tensorboard_reads_back_what_the_run_did(tmp_path: Path) -> None:
    heard = Heard()
    for steps in (3, 6):  # the second process goes on from the first
        trackers = Trackers(["tensorboard"], tmp_path, title="demo", reporter=heard)
        trackers.config({"tune.epochs": "2"})
        trackers.points([point(n, 9.0 - n) for n in range(0, steps + 1, 3)], log=write_log(tmp_path, steps))
        trackers.close()
    record = a_run(tmp_path, cell("few_shot/default/k=3/seed=0", 4.5))
    trackers = Trackers(["tensorboard"], tmp_path, title="demo", reporter=heard)
    trackers.finish(record)
    assert heard.lines == []
    scalars, texts = events(tmp_path / "trackers" / "tensorboard")
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in scalars["train/loss"]] == pytest.approx([line(n)["loss"] for n in range(1, 7)])
    assert scalars["train/lr"][-1][1] == pytest.approx(0.006)
    assert scalars["train/grad_norm"] == [(n, 0.5) for n in range(1, 7)]
    assert scalars["curve/test/ppl_mean"] == [(0, 9.0), (3, 6.0), (6, 3.0)]
    assert scalars["cells/few_shot/default/k=3/seed=0/ppl_mean"] == [(0, 4.5)]
    assert "| zero-shot" in texts["tables/study/text_summary"]
    assert texts["report.md/text_summary"] == "# The answer\n"
    assert "| tune.epochs | 2 |" in texts["tables/settings/text_summary"]
