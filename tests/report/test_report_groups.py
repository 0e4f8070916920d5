"""Which cells make one setting, what it is called, and what its ± is over."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from made_up_run import make_cell, make_grid, make_run, rows_from_ppl, save_run, save_texts, study_of

from triptych.report import (
    Study,
    answer,
    build_report,
    cells_table,
    comparisons,
    few_shot_table,
    group_cells,
    study_table,
    summarise_few_shot,
)
from triptych.report.comparison_pairs import counterpart, plain_qlora
from triptych.report.figures.charts import ppl_by_k
from triptych.report.groups import display_names, items_of
from triptych.report.html.payload import payload
from triptych.report.measures import PERPLEXITY, rows_of
from triptych.report.power import uncertainty_table
from triptych.report.row_texts import RowTexts
from triptych.report.tables.trainings import training_tables


def test_cells_that_differ_only_in_a_seed_are_one_setting_and_nothing_else_is() -> None:
    record, _ = make_grid()
    every = {s.label: s for s in group_cells(record.cells)}
    assert [(label, len(s.cells)) for label, s in every.items() if s.strategy == "qlora"] == [
        ("qlora/default", 3),
        ("qlora/emotional/trained=default", 3),
        ("qlora/default/k=2/draw=item", 6),
        ("qlora/default/trained_k=2", 3),
        ("qlora/emotional/trained=default/trained_k=2", 3),
        ("qlora/default/k=2/draw=item/trained_k=2", 6),
    ]
    few = [label for label, s in every.items() if s.strategy == "few_shot"]
    assert len(few) == 2 * 4 + 1
    assert "few_shot/default/k=4/select=bm25/order=nearest-first" in few
    assert sum(len(s.cells) for s in every.values()) == len(record.cells)


def test_names_tell_every_setting_from_every_other() -> None:
    record, _ = make_grid()
    short = display_names(group_cells(record.cells))
    assert len(set(short.values())) == len(short)
    assert short["qlora/default"] == "QLoRA, default"
    assert short["qlora/emotional/trained=default/trained_k=2"] == (
        "QLoRA, emotional, trained with default and 2 demos"
    )
    assert short["few_shot/default/k=4/select=bm25/order=nearest-first"] == "Few-shot, k=4, bm25, nearest-first"
    assert short["few_shot/default/k=1/draw=item"] == "Few-shot, k=1, random"
    assert short["few_shot/default/k=8/select=bm25"] == "Few-shot, k=8, bm25, found by search"


def test_the_study_keeps_its_short_names() -> None:
    record, _ = make_run()
    assert list(display_names(group_cells(record.cells)).values()) == [
        *("Zero-shot, default", "Zero-shot, emotional", "Few-shot, k=1", "Few-shot, k=3", "Few-shot, k=10", "QLoRA"),
    ]


def test_a_row_enters_with_its_mean_over_trainings() -> None:
    cells, items = trained([[2.0, 4.0], [4.0, 8.0], [6.0, 3.0]])
    (setting,) = group_cells(cells)
    assert rows_of(items_of(setting, items), PERPLEXITY) == pytest.approx({"r0": 4.0, "r1": 5.0})
    assert setting.over().std == pytest.approx(statistics.stdev([3.0, 6.0, 4.5]))
    assert (setting.over().n, setting.repeated, setting.train_seeds) == (3, "trainings", (0, 1, 2))


def trained(ppl: list[list[float]], **fields: object):  # type: ignore[no-untyped-def]
    """A cell of one recipe for each training seed, as the runner writes them."""
    items = {f"qlora/default{f'/train_seed={i}' * bool(i)}": rows_from_ppl(values) for i, values in enumerate(ppl)}
    cells = [
        make_cell(
            name,
            rows,
            **{"training": f"default/train_seed={i}", "trained_prompt": "default", "train_seed": i},
            **{"adapter_sha256": str(i) * 64, **fields},
        )
        for i, (name, rows) in enumerate(items.items())
    ]
    return cells, items


def test_one_training_has_no_std_and_says_so() -> None:
    cells, items = trained([[2.0, 4.0, 5.0]])
    (setting,) = group_cells(cells)
    assert (setting.over().std, setting.repeated) == (None, "")
    table = uncertainty_table(study_of(cells, items))
    assert table.title == "Two kinds of uncertainty"
    assert "trained with one seed" in table.note
    assert "±" not in study_table(study_of(cells)).note


def test_the_two_spreads_stand_apart() -> None:
    record, items = make_grid()
    table = uncertainty_table(study := Study(record, items))
    assert table.title == "Three kinds of uncertainty"
    assert "trained with one seed" not in table.note
    by_name = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    level = {cell.cell: cell.aggregate.ppl_mean for cell in record.cells}
    plain = by_name["QLoRA, default"]
    means = [level["qlora/default"], level["qlora/default/train_seed=1"], level["qlora/default/train_seed=2"]]
    assert (plain["training seeds"], plain["SD over seeds"]) == (3, None)
    assert plain["SD over training seeds"] == pytest.approx(statistics.stdev(means))
    assert plain["95 % interval over rows"] == study.intervals["qlora/default"]
    shown = by_name["QLoRA, default, k=2"]
    cells = [[level[f"qlora/default/k=2/draw=item/seed={d}{t}"] for d in (0, 1)] for t in SEEDS]
    assert shown["SD over training seeds"] == pytest.approx(statistics.stdev([sum(c) / 2 for c in cells]))
    within = math.sqrt(sum(statistics.variance(c) for c in cells) / 3)
    assert (shown["seeds"], shown["SD over seeds"]) == (2, pytest.approx(within))
    few = by_name["Few-shot, k=4, random"]
    assert (few["training seeds"], few["SD over training seeds"], few["seeds"]) == (None, None, 3)


SEEDS = ("", "/train_seed=1", "/train_seed=2")


def test_only_the_recipes_trained_once_are_said_to_be() -> None:
    record, items = make_grid()
    once = [c for c in record.cells if c.training is None or c.train_seed == 0 or (c.trained_k, c.k) == (0, 0)]
    note = uncertainty_table(study_of(once, items)).note
    said = note.partition("Trained with one seed")[2].partition(": ")[2].removesuffix(".").split("; ")
    assert said == [
        *("QLoRA, default, k=2", "QLoRA, default, trained with 2 demos"),
        *("QLoRA, emotional, trained with default and 2 demos", "QLoRA, default, k=2, trained with 2 demos"),
    ]


def test_few_shot_summaries_keep_ways_of_choosing_apart() -> None:
    record, _ = make_grid()
    assert [(s.k, s.select, s.order, s.draw, s.seeds) for s in record.few_shot] == [
        (1, "random", None, "item", (0, 1, 2)),
        (4, "random", None, "item", (0, 1, 2)),
        (1, "bm25", "nearest-first", None, ()),
        (4, "bm25", "nearest-first", None, ()),
        (1, "bm25", "nearest-last", None, ()),
        (4, "bm25", "nearest-last", None, ()),
        (1, "same", None, "item", (0, 1, 2)),
        (4, "same", None, "item", (0, 1, 2)),
    ]
    assert record.few_shot[2].ppl_mean.std is None
    table = few_shot_table(Study(record))
    assert table.columns[:6] == ("prompt", "chosen by", "order", "draw", "k", "seeds")
    assert few_shot_table(Study(make_run()[0])).columns[:4] == ("prompt", "draw", "k", "seeds")


def test_the_table_of_cells_has_columns_only_where_they_say_something() -> None:
    record, _ = make_grid()
    columns = cells_table(Study(record)).columns
    further = ("chosen by", "order", "demo similarity", "trained with", "demos in training", "training seed")
    assert [name for name in columns if name in further] == list(further)
    assert not set(further) & set(cells_table(Study(make_run()[0])).columns)


def test_the_study_table_has_plus_minus_over_trainings() -> None:
    record, _ = make_grid()
    table = study_table(Study(record))
    assert "3 training seeds for QLoRA" in table.note
    lines = {str(row[1]): row for row in table.rows}
    assert any("trained with 2 demos, 3 epochs" in what for what in lines)
    assert any("chosen on dev rows among 12 settings" in what for what in lines)


def test_questions_of_a_richer_grid() -> None:
    record, _ = make_grid()
    every = group_cells(record.cells)
    assert plain_qlora(every) is every[[s.label for s in every].index("qlora/default")]
    pairs = [(c.a, c.b) for c in record.comparisons]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    for k in (1, 4):
        for chosen in ("select=same/draw=item", "select=bm25/order=nearest-last", "select=bm25/order=nearest-first"):
            assert (f"few_shot/default/k={k}/{chosen}", f"few_shot/default/k={k}/draw=item") in pairs
    assert ("qlora/default", "qlora/default/trained_k=2") in pairs
    assert ("qlora/default/k=2/draw=item", "qlora/default/trained_k=2") not in pairs
    best = Study(record).best
    assert all((s.label, best["zero_shot"].label) in pairs for s in every if s.strategy == "qlora")
    assert counterpart(every[0], every) is None


def test_the_answer_sums_up_what_is_many() -> None:
    record, _ = make_grid()
    sentences = answer(Study(record))
    text = "\n".join(sentences)
    assert (
        "Demonstrations with select = bm25, nearest-last, against random ones at the same k: better beyond chance"
        in text
    )
    assert "Against QLoRA, default (" in text
    assert "was chosen on dev rows among 12 settings and scored once on the test rows" in text
    assert "mean of 3 trainings" in sentences[0]
    assert "The best of 9 few-shot settings" in text
    assert len(sentences) < 16


def test_many_prompts_are_summed_up() -> None:
    levels = {"default": 5.0, "a": 4.0, "b": 6.0, **dict.fromkeys("cdef", 5.0)}
    items = {
        f"zero_shot/{name}": rows_from_ppl(
            [level + 0.1 * (i % 7) + 0.001 * ((i * 7 + ord(name[0])) % 5) for i in range(40)]
        )
        for name, level in levels.items()
    }
    cells = [make_cell(name, rows) for name, rows in items.items()]
    found = comparisons(cells, items)
    (sentence,) = [s for s in answer(study_of(cells, comparisons=found)) if s.startswith("Of 6 other")]
    assert "against the default prompt: better beyond chance: a (−1.00" in sentence
    assert "worse beyond chance: b (1.00" in sentence


def test_the_figure_over_k_has_a_line_for_each_way() -> None:
    record, _ = make_grid()
    figure = ppl_by_k(Study(record))
    assert figure is not None
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [line for line in legend if line.startswith("few-shot")] == [
        "few-shot, random, drawn for each row (mean ± std n-1, 3 seeds)",
        "few-shot, bm25, nearest-first",
        "few-shot, bm25, nearest-last",
        "few-shot, same, drawn for each row (mean ± std n-1, 3 seeds)",
    ]


def test_trainings_and_search_have_their_tables() -> None:
    record, _ = make_grid()
    tables = training_tables(record)
    assert [row[0] for row in tables["trainings"].rows][:2] == ["default/train_seed=0", "default/train_seed=1"]
    assert "2 settings were tried on up to 32 dev rows (48 rows scored in all)" in tables["search"].note
    assert training_tables(make_run()[0]) == {}


@pytest.mark.slow
def test_the_whole_report_of_a_richer_grid(tmp_path: Path, real_figures: None) -> None:
    record, items = make_grid()
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- **select = bm25, order = nearest-last**: k training pairs, nearest to the query by BM25" in text
    assert "**All trainings.**" in text
    assert "### Search on the dev rows" in text
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "± is the standard deviation over training seeds" in page
    assert "mean of 3 trainings" in page


def test_the_page_names_seeds_of_both_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    record, items = make_grid()
    monkeypatch.setattr("triptych.report.html.payload.pack_json", json.dumps)
    core = json.loads(payload(Study(record, items), RowTexts(), slices={})["core"])
    by_name = {s["name"]: s for s in core["settings"]}
    assert by_name["QLoRA, default"]["repeats"] == "3 trainings"
    assert by_name["Few-shot, k=4, same"]["repeats"] == "3 seeds"
    cell = next(c for c in core["cells"] if c["cell"] == "qlora/default/k=2/draw=item/seed=1/train_seed=2")
    assert cell["repeat"] == "training seed 2, seed 1"
    series = core["metrics"][0]["charts"]["byK"]["series"]
    assert [s["place"] for s in series if s["role"] == "seeds"] == [0, 3]  # those of bm25 were not drawn by a seed


def test_unseeded_cells_with_one_name_each_stay_apart() -> None:
    items = {name: rows_from_ppl([3.0, 4.0]) for name in ("qlora/a", "qlora/b")}
    cells = [make_cell(name, rows, adapter_sha256="a" * 64, prompt="p") for name, rows in items.items()]
    assert [s.label for s in group_cells(cells)] == ["qlora/a", "qlora/b"]
    assert summarise_few_shot(cells) == ()
