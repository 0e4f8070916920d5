"""What the figures of the curve and of the rows show, read from their axes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up_run import ADAPTER, Maker, make_cell, make_curve, make_run, rows_from_ppl, save_run

from triptych.records.store import read_run, write_json
from triptych.report import Study, build_report, is_significant
from triptych.report.figures.charts import differences, learning_curve, ppl_by_k
from triptych.report.figures.rows import distribution, scatter
from triptych.report.figures.style import save, style
from triptych.report.html.charts import CHARTS
from triptych.report.html.payload import payload
from triptych.report.row_texts import RowTexts
from triptych.report.series import Series


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def made(**ppl: Sequence[float]) -> Study:
    """A run of one cell a strategy with these rows."""
    names = {
        "zero_shot": ("zero_shot/default", {}),
        "few_shot": ("few_shot/default/k=3/draw=item/seed=0", {"k": 3, "seed": 0, "draw": "item"}),
        "qlora": ("qlora/default", {"adapter_sha256": ADAPTER}),
    }
    items = {names[strategy][0]: rows_from_ppl(values) for strategy, values in ppl.items()}
    cells = tuple(make_cell(names[s][0], items[names[s][0]], **names[s][1]) for s in ppl)  # type: ignore[arg-type]
    return Study(make_run(5)[0].model_copy(update={"cells": cells, "few_shot": (), "comparisons": ()}), items)


def test_the_curve_has_its_band() -> None:
    record, _ = make_run(dev=True)
    figure = learning_curve(Study(record))
    assert figure is not None
    [band] = figure.axes[0].collections
    drawn = {(round(x), round(y, 9)) for x, y in band.get_paths()[0].vertices.tolist()}  # type: ignore[union-attr]
    for point in record.curve:
        if point.split == "test":
            assert point.ci_low is not None
            assert point.ci_high is not None
            assert {(point.step, round(point.ci_low, 9)), (point.step, round(point.ci_high, 9))} <= drawn
    assert "95 % interval over the test rows" in legend(figure)


def test_every_training_has_its_curve(tmp_path: Path) -> None:
    record, items = make_run(dev=True)
    other = tuple(
        p.model_copy(update={"aggregate": p.aggregate.model_copy(update={"ppl_mean": 2 * p.aggregate.ppl_mean})})
        for p in record.curve
    )
    record = record.model_copy(update={"further_curves": {"default/k=2/train_seed=0": other}})
    figure = learning_curve(Study(record))
    assert figure is not None
    [line] = [line for line in figure.axes[0].lines if line.get_label() == "default/k=2/train_seed=0"]
    assert line.get_ydata().tolist() == [p.aggregate.ppl_mean for p in other if p.split == "test"]
    build_report(save_run(tmp_path, record, items))
    with (tmp_path / "tables" / "further_curves.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["training"] for line in lines} == {"default/k=2/train_seed=0"}
    assert [float(line["ppl_mean"]) for line in lines] == [p.aggregate.ppl_mean for p in other]
    assert "Learning curves of the other trainings" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Learning curves of the other trainings" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_old_curve_has_none_and_still_reports(tmp_path: Path) -> None:
    record, items = make_run()
    maker = Maker(60)
    record = record.model_copy(update={"curve": make_curve(maker, items["qlora/default"], dev=False, band=False)})
    save_run(tmp_path, record, items)
    plain = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for point in plain["curve"]:  # as an older version wrote it: the fields are not there at all
        del point["ci_low"], point["ci_high"]
    write_json(tmp_path / "results.json", plain)
    build_report(tmp_path)
    assert read_run(tmp_path) == record
    with (tmp_path / "curve.csv").open(encoding="utf-8") as file:
        assert "ci_low" not in next(csv.reader(file))
    assert "the band is" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    figure = learning_curve(Study(record))
    assert figure is not None
    assert not figure.axes[0].collections


def test_a_curve_of_which_some_points_have_intervals(tmp_path: Path) -> None:
    record, items = make_run()
    first = record.curve[0].model_copy(update={"ci_low": None, "ci_high": None})
    record = record.model_copy(update={"curve": (first, *record.curve[1:])})
    build_report(save_run(tmp_path, record, items))
    with (tmp_path / "curve.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert (lines[0]["ci_low"], lines[0]["ci_high"]) == ("", "")
    assert float(lines[1]["ci_low"]) < float(lines[1]["ppl_mean"]) < float(lines[1]["ci_high"])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "the band is the 95 % interval over the test rows](figures/learning_curve.png)" in text


def test_figures_and_page_draw_the_same_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, order, points and bounds: what matplotlib draws is what the page carries."""
    study = Study(*make_run(30, dev=True))
    monkeypatch.setattr("triptych.report.html.payload.pack_json", json.dumps)
    carried = json.loads(payload(study, RowTexts(), slices={})["core"])["metrics"][0]["charts"]
    assert list(carried) == [
        name for name in CHARTS if name not in ("calibration", "crossover")
    ]  # no options, no budgets
    for name, draw in (("curve", learning_curve), ("byK", ppl_by_k)):
        figure = draw(study)
        assert figure is not None
        axes, chart = figure.axes[0], carried[name]
        assert sorted(legend(figure)) == sorted(s["name"] for s in chart["series"] if s["name"])
        drawn = [list(line.get_ydata()) for line in axes.lines]  # type: ignore[arg-type]
        for s in chart["series"]:
            if s["role"] == "level":
                assert [*s["y"], *s["y"]] in drawn
            elif s["role"] != "band":
                assert s["y"] in drawn
        assert (axes.get_xlabel(), axes.get_ylabel()) == (chart["x"], chart["y"])
        assert (axes.get_yscale() == "log") == chart["log"]
    band = next(s for s in carried["curve"]["series"] if s["role"] == "band")
    test = [p for p in study.record.curve if p.split == "test"]
    assert band["bounds"] == [[p.ci_low, p.ci_high] for p in test]


def test_the_forest_shows_every_comparison_by_the_one_rule() -> None:
    study = Study(*make_run(30))
    figure, chart = differences(study), CHARTS["forest"](study)
    assert figure is not None
    assert chart is not None
    shown: dict[float, tuple[Series, int]] = {y: (s, i) for s in chart.series for i, y in enumerate(s.y)}
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for place, found in enumerate(reversed(study.comparisons)):
        series, i = shown[place]
        assert (series.x[i], *series.bounds[i]) == (found.difference, found.ci_low, found.ci_high)
        assert series.role == ("significant" if is_significant(found) else "open")
        assert names[place] == f"{study.name(found.a)}  −  {study.name(found.b)}"


def test_scatter_shows_the_two_best_and_counts_the_rows() -> None:
    study = made(zero_shot=[9, 9, 9, 90], few_shot=[4, 8, 5, 40], qlora=[2, 9, 5, 30])
    figure = scatter(study)
    assert figure is not None
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "perplexity of a row: Few-shot, k=3"
    assert axes.get_ylabel() == "perplexity of a row: QLoRA"
    below, above, diagonal = axes.lines
    assert list(zip(below.get_xdata(), below.get_ydata(), strict=True)) == [  # type: ignore[arg-type]
        pytest.approx((4, 2)),
        pytest.approx((40, 30)),
    ]
    assert list(zip(above.get_xdata(), above.get_ydata(), strict=True)) == [pytest.approx((8, 9))]  # type: ignore[arg-type]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())  # type: ignore[arg-type]
    assert legend(figure) == [*["below: QLoRA better (2 rows)", "above: Few-shot, k=3 better (1 row)", "equal (1 row)"]]


def test_scatter_counts_as_the_comparison_does() -> None:
    record, items = make_run(dev=True)
    figure = scatter(Study(record, items))
    assert figure is not None
    found = next(c for c in record.comparisons if c.a == "qlora/default" and c.b.startswith("few_shot"))
    assert legend(figure)[0] == f"below: QLoRA better ({found.wins:,} rows)"
    assert f"better ({found.losses:,} rows)" in legend(figure)[1]
    assert figure.axes[0].get_xlabel().endswith("(mean of 3 seeds)")


def test_distribution_is_the_share_of_rows() -> None:
    study = made(few_shot=[4, 8, 5, 40], qlora=[2, 9, 5, 30])
    figure = distribution(study)
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    few_shot, mean = axes.lines[:2]
    assert list(few_shot.get_xdata())[1:] == pytest.approx([4, 5, 8, 40])  # type: ignore[arg-type]
    assert list(few_shot.get_ydata()) == [0, 0.25, 0.5, 0.75, 1]  # type: ignore[arg-type]
    assert (list(mean.get_xdata()), list(mean.get_ydata())) == ([pytest.approx(14.25)], [0.75])  # type: ignore[arg-type]
    assert legend(figure) == [
        "Few-shot, k=3: median 6.50, mean 14.2 (mark)",
        "QLoRA: median 7.00, mean 11.5 (mark)",
    ]


def test_figures_of_rows_are_left_out_where_there_is_nothing_to_draw() -> None:
    study = made(zero_shot=[3, 4])
    assert scatter(study) is None
    assert distribution(study) is not None
    assert scatter(Study(study.record)) is distribution(Study(study.record)) is None
    study = made(zero_shot=[3], qlora=[2])
    assert scatter(study) is not None
    assert distribution(study) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("a", "b"),
    [([5, 5, 5], [5, 5, 5]), ([1010, 1012], [1011, 1013]), ([1, 1e9], [2, 1e7])],
    ids=["identical", "narrow", "wide"],
)
def test_figures_of_rows_survive_any_range(a: list[float], b: list[float], tmp_path: Path) -> None:
    study = made(zero_shot=a, qlora=b)
    with style():
        for name, figure in (("scatter", scatter(study)), ("distribution", distribution(study))):
            assert figure is not None
            save(figure, tmp_path, name)
            low, high = figure.axes[0].get_xlim()
            assert sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) >= 2


def test_many_rows_are_pixels_in_the_svg(tmp_path: Path) -> None:
    maker = Maker(5000)
    few, tuned = maker.items(4.9), maker.items(3.4)
    study = made(few_shot=[i.ppl for i in few], qlora=[i.ppl for i in tuned])
    figure = scatter(study)
    assert figure is not None
    with style():
        save(figure, tmp_path, "scatter")
    assert (tmp_path / "scatter.svg").stat().st_size < 500_000
