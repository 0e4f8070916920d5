"""What the calls give back: numbers as DataFrames, and a rich display in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.api import frames
from triptych.records import Aggregate, RunRecord

if TYPE_CHECKING:
    from triptych.runner.predict import Predictions as Written

_BESIDE = ("strategy", "prompt", "k", "seed")


def load_run(path: str | Path) -> Run:
    """A finished run, from its folder. Needs no model and no torch.

    Args:
        path: the run's folder, e.g. `runs/demo`.

    Raises:
        DataError: there is no finished run there.
    """
    from triptych.records.store import read_run

    folder = Path(path)
    return Run(folder, read_run(folder))


class Run:
    """A finished experiment. In a notebook it shows its answer and its table.

    Attributes:
        path: the run's folder.
        record: `results.json`, whole.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path, self.record = path, record

    @property
    def name(self) -> str:
        """As the configuration has it."""
        return self.record.name

    @cached_property
    def cells(self) -> Any:
        """DataFrame: a line per cell, with its settings, its metrics with their intervals, and four averages."""
        return frames.cells_frame(self.record)

    @cached_property
    def items(self) -> Any:
        """DataFrame: a line per cell and test row: NLL in nats, scored tokens, characters, perplexity, metrics."""
        beside = {cell.cell: {name: getattr(cell, name) for name in _BESIDE} for cell in self.record.cells}
        return frames.items_frame(self.path / "items.parquet", beside)

    @cached_property
    def curve(self) -> Any:
        """DataFrame: the learning curves of the run's trainings; empty without one."""
        return frames.curve_frame(self.record)

    @cached_property
    def comparisons(self) -> Any:
        """DataFrame: paired differences by each metric, with their intervals and Holm-corrected p."""
        return frames.comparisons_frame(self.record)

    @cached_property
    def few_shot(self) -> Any:
        """DataFrame: each few-shot setting over its seeds."""
        return frames.few_shot_frame(self.record)

    @property
    def answer(self) -> list[str]:
        """The question answered in sentences, the headline first."""
        from triptych.report import Study, answer

        return answer(Study(self.record))

    def wrong(self, cell: str) -> Any:
        """DataFrame: the rows that a cell gets wrong, with instruction, reference and answer.

        Args:
            cell: its name, as in `cells`.

        Raises:
            ConfigError: there is no such cell, or the run has no metric of right and wrong.
        """
        from triptych.report.wrong import wrong_rows

        table = wrong_rows(self.path, cell)
        return frames.frame((dict(zip(table.columns, row, strict=True)) for row in table.rows), table.columns)

    @property
    def adapter(self) -> Path | None:
        """Folder of the first training's adapter, in PEFT's format; None where nothing was trained."""
        folder = self.path / "adapter"
        return folder if folder.is_dir() else None

    def report(self, *, rebuild: bool = False) -> Path:
        """The path of `report.html`; it is built if it isn't there.

        Args:
            rebuild: build it again from the records.
        """
        path = self.path / "report.html"
        if rebuild or not path.exists():
            from triptych.report import build_report

            build_report(self.path)
        return path

    def __repr__(self) -> str:
        """One line."""
        return f"<Run {self.name}: {len(self.record.cells)} cells in {self.path}>\n{self.answer[0]}"

    def _repr_html_(self) -> str:
        from triptych.report import Study, study_table

        table = _html_table(study_table(Study(self.record)))
        first, *others = self.answer
        more = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in others)
        where = (
            f"{html.escape(self.name)}, {len(self.record.cells)} cells, in <code>{html.escape(str(self.path))}</code>"
        )
        return (
            f"<p><b>{html.escape(first)}</b></p>{table}"
            + (f"<details><summary>In full</summary><ul>{more}</ul></details>" if more else "")
            + f"<p><small>{where}</small></p>"
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """One cell, scored: what `scores.json` holds."""

    lines: list[dict[str, Any]]
    """A line per row: id, nll_nats, n_tokens, n_chars, ppl, n_demos, …"""
    aggregate: Aggregate
    """The four averages, and other metrics."""
    provenance: dict[str, Any]
    """Versions, hashes, prompt and machine."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Metric of yours that could not be computed -> why, with the row named; all else is there."""

    @cached_property
    def items(self) -> Any:
        """DataFrame: a line per row, with NLL in nats, scored tokens, characters, perplexity and metrics."""
        return frames.frame(
            map(frames.with_metrics, self.lines), ("id", "nll_nats", "n_tokens", "n_chars", "ppl", "n_demos")
        )

    def __repr__(self) -> str:
        """One line."""
        a = self.aggregate
        bits = "none" if a.bits_per_char is None else f"{a.bits_per_char:.4f}"
        return (
            f"<Scores of {a.n_rows} rows, {a.n_tokens} tokens: "
            f"ppl_mean {a.ppl_mean:.4f}, ppl_corpus {a.ppl_corpus:.4f}, "
            f"ppl_geometric {a.ppl_geometric:.4f}, bits_per_char {bits}"
            f"{''.join(f', {name} {value.value:.4f}' for name, value in a.metrics.items())}>"
        )

    def _repr_html_(self) -> str:
        from triptych.report import Table

        a = self.aggregate
        names = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char", "n_rows", "n_tokens")
        values = (*(value.value for value in a.metrics.values()), *(getattr(a, name) for name in names))
        return _html_table(Table("Scores", (*a.metrics, *names), (values,)))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model wrote."""

    written: Written
    """Rows, their check and, where the data has outputs, chrF++ and BLEU."""

    @cached_property
    def items(self) -> Any:
        """DataFrame: a line per row: id, the text, its tokens, and what ended it (`eos`, `stop_text`, `length`)."""
        lines = (
            {"id": row.row_id, "output": row.text, "n_tokens": row.n_tokens, "stopped_by": row.stopped_by}
            for row in self.written.rows
        )
        return frames.frame(lines, ("id", "output", "n_tokens", "stopped_by"))

    @property
    def findings(self) -> Any:
        """DataFrame: what the check of the texts found, and in which rows."""
        found = self.written.check.findings
        lines = ({"finding": one.says, "wrong": one.hard, "rows": list(one.row_ids)} for one in found)
        return frames.frame(lines, ("finding", "wrong", "rows"))

    @property
    def chrf(self) -> float | None:
        """chrF++ over the corpus, 0 to 100; None where the data has no outputs."""
        return self.written.quality.chrf if self.written.quality else None

    @property
    def bleu(self) -> float | None:
        """BLEU over the corpus, 0 to 100; None where the data has no outputs."""
        return self.written.quality.bleu if self.written.quality else None

    def __repr__(self) -> str:
        """One line."""
        judged = f", chrF++ {self.chrf:.2f}, BLEU {self.bleu:.2f}" if self.written.quality else ""
        return f"<Predictions of {len(self.written.rows)} rows{judged}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.items.head(10).to_html(index=False)}"


def _html_table(table: Any) -> str:
    from triptych.report.tables.table import numeric_columns, write_value

    numbers = numeric_columns(table)

    def line(cells: Any, tag: str) -> str:
        aligned = (
            f'<{tag} style="text-align:{"right" if i in numbers else "left"}">{html.escape(text)}</{tag}>'
            for i, text in enumerate(cells)
        )
        return f"<tr>{''.join(aligned)}</tr>"

    body = "".join(line(map(write_value, row), "td") for row in table.rows)
    note = f"<p><small>{html.escape(table.note)}</small></p>" if table.note else ""
    return f"<table><thead>{line(table.columns, 'th')}</thead><tbody>{body}</tbody></table>{note}"
