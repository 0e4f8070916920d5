from __future__ import annotations

import csv
import io
import re

import pytest
from made_up_run import make_run, make_tune
from rich.console import Console

from triptych.records import Averaged
from triptych.report import (
    Study,
    Table,
    cells_table,
    print_tables,
    settings_table,
    study_table,
    to_csv,
    to_latex,
    to_markdown,
)
from triptych.report.numbers import Estimate, Interval, Probability, difference, number, p_text, spread
from triptych.report.tables.table import escape
from triptych.report.text.markdown import fence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.4629, "5.46"),
        (254.46, "254"),
        (12345.6, "12,346"),
        (9.996, "10.0"),
        (0.0, "0.00"),
        (0.03124, "0.0312"),
        (3e-5, "3e-5"),
        (-0.0005, "−0.0005"),
        (-1.3249, "−1.32"),
    ],
)
def test_numbers_have_three_places(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_shown_together_share_their_decimals() -> None:
    assert spread(Averaged(mean=4.9612, std=0.0312, n=3)) == "4.96 ± 0.03"
    assert spread(Averaged(mean=254.4, std=8.04, n=3)) == "254 ± 8"
    assert difference(-12.31, -14.9, -10.06) == "−12.3 [−14.9, −10.1]"


def test_one_seed_shows_no_spread() -> None:
    assert spread(Averaged(mean=4.9612, std=None, n=1)) == "4.96"
    record, _ = make_run(seeds=(0,))
    assert "±" not in to_markdown(study_table(Study(record)))
    assert "±" not in study_table(Study(record)).note


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0001, "p < 0.001"), (0.0234, "p = 0.023"), (0.42, "p = 0.42"), (0.999, "p > 0.99"), (1, "p = 1.00")],
)
def test_p_values_are_never_rounded_to_zero_or_one(value: float, text: str) -> None:
    assert p_text(value) == text


def test_names_cannot_break_a_markdown_table() -> None:
    table = Table("t", ("na|me", "x"), (("a|b\nc *d* _e_ <img> `f`", 1.0),))
    lines = to_markdown(table).splitlines()
    assert len(lines) == 3
    assert r"a\|b<br>c \*d\* \_e\_ &lt;img> \`f\`" in lines[2]
    assert r"na\|me" in lines[0]
    assert escape("few_shot/default p < 0.001 & more") == "few_shot/default p < 0.001 & more"


def test_csv_keeps_every_digit_and_splits_what_has_parts() -> None:
    table = Table(
        "t",
        ("name", "ppl", "95 %", "a - b", "p"),
        (
            (
                "x, y",
                Averaged(mean=1 / 3, std=0.1, n=3),
                Interval(1.0, 2.0),
                Estimate(1.0, 0.5, 1.5),
                Probability(0.25),
            ),
            ("z", 2.5, None, None, None),
        ),
    )
    lines = list(csv.reader(io.StringIO(to_csv(table))))
    assert lines[0] == ["name", "ppl", "ppl std", "95 % low", "95 % high", "a - b", "a - b low", "a - b high", "p"]
    assert lines[1] == ["x, y", repr(1 / 3), "0.1", "1.0", "2.0", "1.0", "0.5", "1.5", "0.25"]
    assert lines[2] == ["z", "2.5", "", "", "", "", "", "", ""]


def test_the_studys_table_has_its_rows_in_its_order() -> None:
    record, _ = make_run()
    table = study_table(Study(record))
    assert [row[0] for row in table.rows] == ["QLoRA", *["zero-shot"] * 2, *["few-shot"] * 3, "best of each"]
    assert table.rows[-1][1] == "Zero-shot, default / Few-shot, k=10 / QLoRA"
    assert "(n-1, 3 seeds)" in table.note
    assert isinstance(table.rows[3][2], Averaged)


def test_every_cell_has_its_line() -> None:
    record, items = make_run()
    table = cells_table(study := Study(record, items))
    assert len(table.rows) == len(record.cells) == 12
    place = table.columns.index("95 % interval")
    assert table.rows[0][place] == study.intervals[record.cells[0].cell]
    assert cells_table(Study(record)).rows[0][place] is None
    assert table.rows[-1][table.columns.index("adapter")] == "abababab"


def test_settings_are_shown_as_given() -> None:
    assert ("quantize.kind", "nf4") in settings_table(make_tune()).rows
    assert ("lr", "3e-05") in settings_table(make_tune()).rows


def test_an_empty_table_still_has_its_head() -> None:
    assert to_markdown(Table("t", ("a", "b"), ())).startswith("| a")
    assert to_csv(Table("t", ("a", "b"), ())) == "a,b\n"


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_whole_names_and_numbers(width: int) -> None:
    record, _ = make_run()
    console = Console(width=width, record=True, file=io.StringIO())
    print_tables(record, console)
    text = console.export_text()
    assert "QLoRA < few-shot k=10" in text
    assert re.search("zero-shot emotional [~<>] zero-shot default", text)
    assert "4.27 ± 0.03" in text
    assert "[−" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert len(re.findall(r"few-shot k=10 seed \d", text)) == 3


def test_latex_is_escaped_and_keeps_its_columns() -> None:
    names = ("50 % & #1", "[a] {b} \\c ~^_$", "−1 ± 2 < 3", "a\nb…")
    table = Table("t", ("na_me", "x"), tuple((name, 1.5) for name in names), "a\nnote")
    lines = [re.sub(" +", " ", line).strip() for line in to_latex(table).splitlines()]
    assert lines[:5] == ["% t. a note", r"\begin{tabular}{lr}", r"\toprule", r"na\_me & x \\", r"\midrule"]
    assert lines[5] == r"50 \% \& \#1 & 1.50 \\"
    assert lines[6] == r"{}[a] \{b\} \textbackslash{}c \textasciitilde{}\^{}\_\$ & 1.50 \\"
    assert lines[7] == r"$-$1 $\pm$ 2 \ensuremath{<} 3 & 1.50 \\"
    assert lines[8] == r"a b\ldots{} & 1.50 \\"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


def test_latex_of_a_table_without_rows_has_its_columns() -> None:
    assert r"\begin{tabular}{ll}" in to_latex(Table("t", ("a", "b"), ()))


def test_a_fence_outlasts_backticks_in_a_prompt() -> None:
    assert fence("a ```` b").startswith("`````text\n")
    assert fence("a").startswith("```text\n")


def test_csv_text_that_a_spreadsheet_would_compute_is_quoted_and_numbers_stay() -> None:
    names = ["=1+1", "+a", "-b", "@c", "\td", "\re", "=cmd|' /C calc'!A0", "-0.5", "+3e-05", "plain", ""]
    table = Table("t", ("=name", "value"), tuple((name, -1.5) for name in names))
    lines = list(csv.reader(io.StringIO(to_csv(table))))
    assert lines[0] == ["'=name", "value"]
    quoted = ["'=1+1", "'+a", "'-b", "'@c", "'\td", "'\re", "'=cmd|' /C calc'!A0"]
    assert [line[0] for line in lines[1:]] == [*quoted, "-0.5", "+3e-05", "plain", ""]
    assert {line[1] for line in lines[1:]} == {"-1.5"}
