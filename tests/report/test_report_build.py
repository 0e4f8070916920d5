from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_run import Maker, make_cell, make_curve, make_run, make_tune, save_run

from drawing import drawn
from triptych.errors import DataError
from triptych.records import RunRecord
from triptych.records.store import write_items
from triptych.report import Study, answer, build_report, comparisons, summarise_few_shot, write_curve
from triptych.report.numbers import number
from triptych.report.text.markdown import prompt_texts


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, str]:
    record, items = make_run(dev=True)
    folder = save_run(tmp_path_factory.mktemp("run"), record, items)
    with drawn():
        assert build_report(folder) == record
    return folder, record, (folder / "report.md").read_text(encoding="utf-8")


def test_the_report_answers_first_and_keeps_the_studys_order(built: tuple[Path, RunRecord, str]) -> None:
    _, record, text = built
    headline = answer(Study(record))[0]
    assert text.splitlines()[2] == f"**{headline}**"
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == [
        "1. QLoRA",
        "2. Zero-shot",
        "3. Few-shot",
        "4. Comparison",
        "5. Every cell",
        "6. How the numbers are made",
        "7. Provenance",
    ]
    assert text.index("Two test rows also occur") < text.index("## 1.")


def test_the_report_holds_the_runs_numbers_and_prompts(built: tuple[Path, RunRecord, str]) -> None:
    _, record, text = built
    for cell in record.cells:
        assert number(cell.aggregate.ppl_mean) in text
    for summary in record.few_shot:
        assert summary.ppl_mean.std is not None
        assert f"{summary.ppl_mean.mean:.2f} ± {summary.ppl_mean.std:.2f}" in text
    assert "這對我來說很重要。USER: {instruction} ASSISTANT:\n```" in text
    assert "第{i}個例子，USER: {instruction} ASSISTANT: {output}\n```" in text
    assert "(n-1, 3 seeds)" in text
    assert "triptych run study.yaml" in text
    assert "selected on the test rows" not in text
    assert "\n\n\n" not in text


def test_every_linked_figure_exists_and_is_a_picture(built: tuple[Path, RunRecord, str]) -> None:
    folder, _, text = built
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert [Path(link).stem for link in links] == [
        *["learning_curve", "ppl_by_k", "comparison", "differences", "scatter", "distribution"]
    ]
    for link in links:
        assert (folder / link).read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / link).with_suffix(".svg").read_text(encoding="utf-8")


def test_the_curve_is_written_with_its_columns(built: tuple[Path, RunRecord, str]) -> None:
    folder, record, _ = built
    with (folder / "curve.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        *["split", "step", "epoch", "rows_seen", "ppl_mean", "ci_low", "ci_high", "ppl_corpus", "ppl_geometric"],
        *["bits_per_char", "train_loss", "lr", "seconds"],
    ]
    assert len(lines) == len(record.curve) == 10
    assert lines[0]["train_loss"] == ""
    assert float(lines[-2]["ppl_mean"]) == record.curve[-2].aggregate.ppl_mean
    assert float(lines[-2]["ci_low"]) == record.curve[-2].ci_low
    assert float(lines[-2]["ci_high"]) == record.curve[-2].ci_high


def test_building_again_gives_the_same_bytes(built: tuple[Path, RunRecord, str], real_figures: None) -> None:
    folder, _, _ = built
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    build_report(folder)
    assert [path for path in files if path.read_bytes() != before[path]] == []
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files


def test_strategies_that_were_not_run_leave_no_section_figure_or_table(tmp_path: Path) -> None:
    record, items = make_run()
    build_report(save_run(tmp_path, record, items))
    cells = record.cells[:2]
    alone = {cell.cell: items[cell.cell] for cell in cells}
    less = record.model_copy(
        update={"cells": cells, "few_shot": (), "curve": (), "tune": None, "comparisons": comparisons(cells, alone)}
    )
    build_report(save_run(tmp_path, less, alone))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## 1. QLoRA" not in text
    assert "## 3. Few-shot" not in text
    assert "adapter off" not in text
    kept = [f"{name}.{kind}" for name in ("differences", "distribution") for kind in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == kept
    assert not (tmp_path / "tables" / "few_shot.csv").exists()


def test_a_checkpoint_selected_on_the_test_set_is_said_plainly(tmp_path: Path) -> None:
    record, items = make_run()
    record = record.model_copy(update={"tune": make_tune(selected_by="test", selected_step=1407)})
    build_report(save_run(tmp_path, record, items))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**The checkpoint was selected on the test rows** (step 1,407" in text
    assert text.index("selected on the test rows") < text.index("## 1.")


def test_only_training_so_far_makes_a_report(tmp_path: Path, real_figures: None) -> None:
    record, _ = make_run()
    record = record.model_copy(update={"cells": (), "few_shot": (), "comparisons": ()})
    build_report(save_run(tmp_path, record, {}))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Nothing was scored" in text
    assert "learning_curve.png" in text


@pytest.mark.filterwarnings("error")
def test_awkward_prompt_names_survive(tmp_path: Path, real_figures: None) -> None:
    maker = Maker(30)
    items = {f"zero_shot/{name}": maker.items(5) for name in ("default", "a|b $x_1$ *y*", "情緒")}
    cells = [make_cell(name, scored) for name, scored in items.items()]
    record, _ = make_run()
    prompts = {cell.prompt: {"zero_shot": "```\n{instruction}"} for cell in cells}
    record = record.model_copy(
        update={"cells": tuple(cells), "few_shot": (), "comparisons": comparisons(cells, items), "prompts": prompts}
    )
    build_report(save_run(tmp_path, record, items))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert r"a\|b $x_1$ \*y\*" in text
    assert "````text\n```\n{instruction}\n````" in text


def test_a_missing_record_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        build_report(tmp_path)


def test_a_torn_record_is_a_data_error(tmp_path: Path) -> None:
    record, items = make_run()
    save_run(tmp_path, record, items)
    (tmp_path / "results.json").write_text('{"schema_version": 1, "name"', encoding="utf-8")
    with pytest.raises(DataError, match="torn"):
        build_report(tmp_path)


def test_items_of_another_run_are_refused(tmp_path: Path) -> None:
    record, items = make_run()
    save_run(tmp_path, record, items)
    write_items(tmp_path / "items.parquet", {**items, "qlora/default": items["zero_shot/default"]})
    with pytest.raises(DataError, match="do not belong together"):
        build_report(tmp_path)
    write_items(tmp_path / "items.parquet", {"qlora/default": items["qlora/default"]})
    with pytest.raises(DataError, match="zero_shot/default"):
        build_report(tmp_path)


def test_write_curve_stands_alone(tmp_path: Path) -> None:
    maker = Maker(20)
    write_curve(tmp_path / "new" / "curve.csv", make_curve(maker, maker.items(3.4), dev=False))
    assert len((tmp_path / "new" / "curve.csv").read_text(encoding="utf-8").splitlines()) == 6


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    record, items = make_run()
    save_run(tmp_path, record, items)
    code = (
        "import json, sys; from pathlib import Path; import triptych.report;"
        "imported = sorted(sys.modules); triptych.report.build_report(Path(sys.argv[1]));"
        "print(json.dumps([imported, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    imported, after = json.loads(done.stdout)
    assert not {"torch", "transformers", "matplotlib"} & set(imported)
    assert "torch" not in after


@pytest.mark.slow
def test_a_full_report_is_quick(tmp_path: Path, real_figures: None) -> None:
    record, items = make_run(250, ks=(1, 2, 3, 5, 10, 16), seeds=(0, 1, 2))
    assert len(record.cells) == 21
    save_run(tmp_path, record, items)
    begin = time.perf_counter()
    build_report(tmp_path)
    seconds = time.perf_counter() - begin
    print(f"report of 250 rows x {len(record.cells)} cells: {seconds:.2f} s")
    assert seconds < 20
    assert summarise_few_shot(record.cells) == record.few_shot


def test_a_chat_prompt_is_shown_with_its_system_turn_and_no_part_that_it_does_not_use() -> None:
    facts = {
        **{"style": "multiturn", "preamble": "", "zero_shot": "Q: {instruction}", "system": "Be brief."},
        "few_shot": {"head": "never used", "demo": "never used", "tail": "never used"},
    }
    assert prompt_texts(facts, "zero_shot") == {"system turn": "Be brief.", "user turn": "Q: {instruction}"}
    shown = prompt_texts(facts, "few_shot")
    assert list(shown.values()) == ["Be brief.", "Q: {instruction}", "{output}"]
    plain = {
        "preamble": "Hello. ",
        "zero_shot": "{preamble}{instruction}",
        "few_shot": {"head": "{preamble}", "demo": "d"},
    }
    assert prompt_texts(plain, "zero_shot") == {"text": "Hello. {instruction}"}
    assert prompt_texts(plain, "few_shot") == {"head": "Hello. ", "demo": "d"}
