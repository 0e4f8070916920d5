"""Training from end to end on tiny models: it learns, stops when told, goes on as if it had not, says what it did."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from triptych.errors import DataError, DiskError, DivergedError, Interrupted, ModelError
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer, to_items
from triptych.models import load_adapter
from triptych.prompts import Rendered
from triptych.training import TuneResult, loop, read_summary
from triptych.training.curve import read_curve, write_curve

if TYPE_CHECKING:
    from triptych.models import LoadedModel

Train = Callable[..., TuneResult]


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of the log, without the seconds."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def points(result: TuneResult) -> list[dict[str, Any]]:
    return [point.model_dump(exclude={"seconds"}) for point in result.curve]


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_it_learns_and_says_what_it_did(train: Train, tmp_path: Path) -> None:
    seen: list[int] = []
    result = train(epochs=3, on_curve=lambda curve: seen.append(len(curve)))
    curve = [point.aggregate.ppl_mean for point in result.curve]
    assert [point.step for point in result.curve] == [0, 4, 8, 12, 15]
    assert curve[-1] < 0.5 * curve[0]
    log = log_of(tmp_path / "tune")
    assert [line["step"] for line in log] == list(range(1, 16))
    assert sum(line["loss"] for line in log[-5:]) < 0.8 * sum(line["loss"] for line in log[:5])
    assert seen == [1, 2, 3, 4, 5]

    summary = result.summary
    assert summary == read_summary(tmp_path / "tune")
    assert (summary.steps, summary.epochs, summary.rows, summary.rows_dropped) == (15, 3.0, 20, 0)
    assert (summary.selected_step, summary.selected_by) == (15, "last")
    assert summary.scored_tokens == sum(line["n_scored"] for line in log)
    assert summary.tokens == sum(line["n_tokens"] for line in log)
    assert summary.adapter_sha256 == result.adapter.sha256()
    assert summary.settings["lr"] == 0.01
    assert summary.trainable_parameters == sum(p.numel() for p in result.adapter.parameters().values())


def test_train_loss_of_a_point_is_the_mean_since_the_point_before(train: Train, tmp_path: Path) -> None:
    result = train()
    log = log_of(tmp_path / "tune")
    assert result.curve[0].train_loss is None
    for before, point in zip(result.curve, result.curve[1:], strict=False):
        lines = log[before.step : point.step]
        nll = sum(line["loss"] * line["n_scored"] for line in lines)
        assert point.train_loss == pytest.approx(nll / sum(line["n_scored"] for line in lines), rel=1e-6)
        assert point.rows_seen == 4 * point.step
        assert point.epoch == pytest.approx(point.rows_seen / 20)
        assert point.lr == lines[-1]["lr"]


def test_the_first_steps_loss_is_the_untrained_models(
    train: Train, load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]], tmp_path: Path
) -> None:
    train(rows=4, epochs=1, test=2)
    loaded = load_fake("llama")
    nll = [row.nll_nats for row in Scorer(loaded).score(rendered(loaded, 4))]
    n = sum(row.n_scored for row in rendered(loaded, 4))
    assert log_of(tmp_path / "tune")[0]["loss"] == pytest.approx(math.fsum(nll) / n, rel=1e-6)


def test_a_curve_point_is_the_scorers_number(
    train: Train, load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]], tmp_path: Path
) -> None:
    result = train()
    loaded = load_fake("llama")
    rows = rendered(loaded, 24)[20:]
    assert aggregate(to_items(rows, Scorer(loaded).score(rows))) == result.curve[0].aggregate
    load_adapter(loaded, tmp_path / "tune" / "adapter")
    assert aggregate(to_items(rows, Scorer(loaded).score(rows))) == result.curve[-1].aggregate


def test_eval_rows_takes_the_first_test_rows(train: Train) -> None:
    result = train(test=4, eval_rows=3, epochs=1)
    assert {point.aggregate.n_rows for point in result.curve} == {3}


def test_how_a_step_is_cut_changes_nothing_but_rounding(train: Train, tmp_path: Path) -> None:
    for name, config in {"1x4": {"batch_size": 1, "accumulation": 4}, "4x1": {"batch_size": 4}}.items():
        train(name, epochs=1, **config)
    one, other = (log_of(tmp_path / name) for name in ("1x4", "4x1"))
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in other], rel=1e-4)
    assert [line["n_scored"] for line in one] == [line["n_scored"] for line in other]


def test_the_seed_decides(train: Train, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(name, seed=seed, epochs=1, eval_every=100)
        torch.manual_seed(99)  # whatever the process drew before must not matter
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


class Killed(Exception):
    """Stands for a kill: nothing that the training does on its way out may be needed."""


def killed_at(step: int) -> Callable[[Sequence[Any]], None]:
    def on_curve(curve: Sequence[Any]) -> None:
        if curve[-1].step == step:
            raise Killed

    return on_curve


@pytest.mark.parametrize(
    "config",
    [{}, {"dropout": 0.2}, {"select": "dev", "dev": 4}, {"checkpoint_every": 3, "keep": 1}],
    ids=["plain", "dropout", "select-dev", "sparse-checkpoints"],
)
def test_going_on_is_as_if_nothing_had_happened(config: dict[str, Any], train: Train, tmp_path: Path) -> None:
    undisturbed = train("whole", eval_every=2, **config)
    for step in (2, 4, 8):
        with pytest.raises(Killed):
            train("broken", eval_every=2, on_curve=killed_at(step), **config)
    broken = train("broken", eval_every=2, **config)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert points(broken) == points(undisturbed)
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
    drop = {"seconds"}
    assert broken.summary.model_dump(exclude=drop) == undisturbed.summary.model_dump(exclude=drop)


def test_the_curve_keeps_the_perplexities_of_its_rows(train: Train, tmp_path: Path) -> None:
    result = train("whole", dev=3, eval_every=2)
    path = tmp_path / "whole" / "curve.json"
    _, kept = read_curve(path)
    assert list(kept) == [f"{point.split}@{point.step}" for point in result.curve]
    for point, rows in zip(result.curve, kept.values(), strict=True):
        assert len(rows) == point.aggregate.n_rows
        assert math.fsum(rows) / len(rows) == pytest.approx(point.aggregate.ppl_mean, rel=1e-5)
        assert all(ppl == float(f"{ppl:.6g}") for ppl in rows)

    with pytest.raises(Killed):
        train("broken", dev=3, eval_every=2, on_curve=killed_at(6))
    broken = tmp_path / "broken" / "curve.json"
    assert [name for name in json.loads(broken.read_text())["rows"] if name.endswith("@6")] == ["test@6"]
    train("broken", dev=3, eval_every=2)
    assert json.loads(broken.read_text())["rows"] == json.loads(path.read_text())["rows"]


def test_rows_of_the_curve_are_trimmed_with_its_points(train: Train, tmp_path: Path) -> None:
    result = train(eval_every=2)
    path = tmp_path / "tune" / "curve.json"
    points, rows = read_curve(path, up_to=4)
    assert len(points) < len(result.curve)
    assert list(rows) == ["test@0", "test@2", "test@4"]
    write_curve(path, points, rows)
    assert read_curve(path) == (points, rows)


def test_a_curve_without_rows_is_read_and_gone_on_with(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(eval_every=2, on_curve=killed_at(4))
    path = tmp_path / "tune" / "curve.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({"points": plain["points"]}))  # as older versions wrote it
    points, rows = read_curve(path, up_to=4)
    assert ([point.step for point in points], rows) == ([0, 2, 4], {})
    result = train(eval_every=2)
    _, rows = read_curve(path)
    gone_on = [f"test@{point.step}" for point in result.curve][-len(rows) :]
    assert list(rows) == gone_on
    assert 0 < len(gone_on) < len(result.curve)


@pytest.mark.parametrize("rows", ['{"test@0": ["x"]}', '{"test@0": 3}', "[1]"])
def test_torn_rows_of_a_curve_are_a_data_error(rows: str, train: Train, tmp_path: Path) -> None:
    train(epochs=1)
    path = tmp_path / "tune" / "curve.json"
    path.write_text(f'{{"points": [], "rows": {rows}}}')
    with pytest.raises(DataError, match="torn"):
        read_curve(path)


def test_going_on_from_the_checkpoint_before_a_torn_one(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = train("whole", eval_every=2)
    with pytest.raises(Killed):
        train("broken", eval_every=2, on_curve=killed_at(8))
    [older, newest] = sorted((tmp_path / "broken" / "checkpoints").iterdir())
    file = newest / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    broken = train("broken", eval_every=2)
    assert f"{newest.name} is not whole" in caplog.text
    assert older.name == "step-000006"
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
    assert points(broken) == points(undisturbed)


def test_a_finished_training_is_finished_again_from_its_last_checkpoint(train: Train, tmp_path: Path) -> None:
    first = train()
    before = weights(tmp_path / "tune")
    shutil.rmtree(tmp_path / "tune" / "adapter")
    again = train()
    assert weights(tmp_path / "tune") == before
    assert again.summary == first.summary  # the seconds too: no step was done again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_says_how_to_go_on(
    number: signal.Signals, train: Train, tmp_path: Path
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = train("whole")

    def stop(curve: Sequence[Any]) -> None:
        if curve[-1].step == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=r"after step 5 of 10[\s\S]*run the same command again"):
        train("stopped", on_curve=stop)
    assert (tmp_path / "stopped" / "checkpoints" / "step-000005").is_dir()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = train("stopped")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "whole")
    assert points(resumed) == points(whole)


def test_a_second_signal_stops_at_once(train: Train) -> None:
    def stop(curve: Sequence[Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(on_curve=stop)


def test_dropout_is_reproducible_and_off_when_scoring(train: Train, tmp_path: Path) -> None:
    a, b = train("a", dropout=0.3), train("b", dropout=0.3)
    without = train("without")
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "without")
    assert points(a) == points(b)
    assert a.curve[0].aggregate == without.curve[0].aggregate
    assert not any(module.training for module in a.adapter.model.modules())


def test_select_dev_gives_the_best_steps_adapter(
    train: Train,
    load_fake: Callable[..., LoadedModel],
    rendered: Callable[..., list[Rendered]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # after six steps uphill, so that the best is not the last
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: 0.01 if step < 6 else -0.05)
    result = train(rows=8, dev=4, select="dev", epochs=6, eval_every=2)
    dev = {point.step: point.aggregate for point in result.curve if point.split == "dev"}
    best = min(dev, key=lambda step: (dev[step].ppl_mean, step))
    assert 0 < best < result.summary.steps
    assert (result.summary.selected_step, result.summary.selected_by) == (best, "dev")
    loaded = load_fake("llama")
    adapter, facts = load_adapter(loaded, tmp_path / "tune" / "adapter")
    rows = rendered(loaded, 16)[12:]
    assert aggregate(to_items(rows, Scorer(loaded).score(rows))) == dev[best]
    assert adapter.sha256() == result.summary.adapter_sha256 == result.adapter.sha256()
    assert facts["step"] == best


def test_select_test_is_noted(train: Train) -> None:
    result = train(select="test", epochs=1)
    tested = {point.step: point.aggregate.ppl_mean for point in result.curve}
    assert result.summary.selected_by == "test"
    assert tested[result.summary.selected_step] == min(tested.values())


@pytest.mark.parametrize("select", ["dev", "test"])
def test_selecting_on_rows_that_are_not_there(select: str, train: Train, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"chosen on {select} rows, and there are none"):
        train(select=select, test=0, dev=0)
    assert not (tmp_path / "tune").exists()


def test_no_rows(train: Train) -> None:
    with pytest.raises(DataError, match="no rows to train on"):
        train(rows=0)


def test_an_unknown_target_module_is_named(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"q_porj[\s\S]*q_proj"):
        train(target_modules=["q_porj"])
    assert not (tmp_path / "tune").exists()


def test_target_modules_are_the_only_ones_adapted(train: Train) -> None:
    result = train(target_modules=["q_proj", "v_proj"], epochs=1)
    assert result.summary.target_modules == ("q_proj", "v_proj")
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in result.adapter.parameters()} == {"q_proj", "v_proj"}


def test_divergence_stops_and_keeps_the_checkpoint(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: 0.01 if step < 5 else 1e30)
    with pytest.raises(DivergedError) as caught:
        train(lr=1.0, eval_every=4)
    message = str(caught.value)
    log = log_of(tmp_path / "tune")
    assert len(log) == 6  # the step at that rate, whose own gradient was fine
    assert "diverged at step 7 of 10" in message
    named = message.split("rows of the step: ")[1].splitlines()[0].split(", ")
    assert len(named) == 4
    assert all(name.startswith("row-") for name in named)
    kept = sorted((tmp_path / "tune" / "checkpoints").iterdir())[-1]
    assert kept.name == "step-000004"
    assert "checkpoint of step 4" in message
    assert "lower lr (now 1)" in message
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in log)
    assert not (tmp_path / "tune" / "adapter").exists()


def test_weights_that_are_nan_stop_the_first_step(
    train: Train, load_fake: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    loaded = load_fake("llama")
    with torch.no_grad():
        loaded.model.model.norm.weight[0] = math.nan
    with pytest.raises(DivergedError, match=r"step 1 of 10: loss nan[\s\S]*nothing, no checkpoint was due"):
        train(loaded=loaded, test=0)
    assert not (tmp_path / "tune" / "log.jsonl").exists()


def test_a_point_without_finite_numbers_is_divergence_too(train: Train, load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("llama")

    def ruin(curve: Sequence[Any]) -> None:
        if curve[-1].step == 4:  # as a last step with a huge rate would
            with torch.no_grad():
                loaded.model.model.norm.weight[0] = math.nan

    with pytest.raises(DivergedError):
        train(loaded=loaded, on_curve=ruin)


def test_a_full_disk_stops_cleanly_and_the_training_goes_on_after(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if (tmp_path / "full" / "checkpoints" / "step-000004").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskError, match="the disk is full"):
            train("full")
    assert points(train("full")) == points(whole)
    assert weights(tmp_path / "full") == weights(tmp_path / "whole")
