"""`report.md`: the answer first, then the study's sections in the study's order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.records import CellRecord, RunRecord
from triptych.report.curves import curve_chart
from triptych.report.groups import REPORTED, Setting, capital
from triptych.report.numbers import number, spread
from triptych.report.row_texts import Texts
from triptych.report.seeds import selection
from triptych.report.study import Study
from triptych.report.tables.overview import flat, provenance_table
from triptych.report.tables.table import Table, escape, to_markdown
from triptych.report.text.answer import answer
from triptych.report.text.disagreement import disagreements

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent.parent / "templates"
SELECTED = {
    "last": "the last one",
    "dev": "chosen by its perplexity on held-out training rows (dev)",
    "test": "chosen by its perplexity on the test rows",
}


@dataclass(frozen=True)
class Contents:
    """What a report shows beside the study, both in `report.md` and in `report.html`."""

    tables: Mapping[str, Table]
    """The study's, by name."""
    figures: Collection[str]
    """Those that were drawn."""
    warnings: Sequence[str]
    evidence: Sequence[Table] = ()
    """Of uncertainty."""
    slices: Sequence[Table] = ()
    written: Texts = field(default_factory=Texts)
    """What is said of texts, and rows side by side."""
    classes: Sequence[Table] = ()
    """Of answers among options: macro-F1, calibration, confusion."""


def render_markdown(study: Study, contents: Contents) -> str:
    """Fill the template; sections without cells are left out."""
    filters: dict[str, Callable[..., str]] = {"md": escape, "spread": spread, "table": to_markdown, "fence": fence}
    # markdown, not HTML: `md` escapes what users named
    page = template("report.md.j2", filters, autoescape=False)
    return re.sub(r"\n{3,}", "\n\n", page.render(_context(study, contents))).rstrip() + "\n"


def template(name: str, filters: Mapping[str, Callable[..., str]], *, autoescape: bool) -> Template:
    """A template in which a name that isn't given is an error; numbers, counts and times are written as everywhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=autoescape, **options)
    environment.filters |= {"number": number, "count": lambda value: f"{value:,}", "duration": duration, **filters}
    return environment.get_template(name)


def facts(study: Study, contents: Contents) -> dict[str, Any]:
    """What both templates say."""
    record, curve = study.completed, curve_chart(study)
    command = record.provenance.get("command", "")
    return {
        "record": record,
        "tune": record.tune,
        "selected": SELECTED[record.tune.selected_by] if record.tune else "",
        "banner": disagreements(study),
        # the banner is shown above it
        "answer": [sentence for sentence in answer(study) if sentence not in disagreements(study)],
        "metric": study.metric,
        "metric_title": capital(study.metric.label.removeprefix("mean ")),
        "curve_title": capital(curve.y.removesuffix(" of the rows").removeprefix("mean ")) if curve else "",
        "curve_band": curve is not None and any(series.role == "band" for series in curve.series),
        "further_comparisons": [table for name, table in contents.tables.items() if name.startswith("comparisons_")],
        "class_tables": contents.classes,
        "so_far": study.so_far,
        "intervals_shown": bool(study.comparisons),
        "warnings": contents.warnings,
        "written": contents.written,
        "tables": {**contents.tables, "provenance": provenance_table(record)},
        "command": " ".join(command) if isinstance(command, list | tuple) else str(command),
    }


def _context(study: Study, contents: Contents) -> dict[str, Any]:
    by_strategy: dict[str, list[Setting]] = {strategy: study.of(strategy) for strategy in REPORTED}
    record = study.record
    return {
        **by_strategy,
        **facts(study, contents),
        "sections": {**by_strategy, "qlora": by_strategy["qlora"] or record.tune},
        "figures": contents.figures,
        "more": [*contents.evidence, *contents.slices],
        "prompts": lambda kind: _prompts(record, by_strategy[kind], kind),
        **draw_facts([cell for cell in record.cells if cell.strategy == "few_shot"]),
    }


def draw_facts(cells: Sequence[CellRecord]) -> dict[str, Any]:
    """How the demonstrations of few-shot cells were drawn, and how many did not fit."""
    seeds = sorted({cell.seed for cell in cells if cell.seed is not None})
    several = f"{len(seeds)} seeds" if len(seeds) > 1 else "One seed"
    return {
        "ks": sorted({cell.k for cell in cells}),
        "ways": dict(_way(cell) for cell in cells),
        "seeds": f"{several}: {', '.join(map(str, seeds))}" if seeds else "No seed: nothing is drawn at random",
        "dropped": sum(cell.demos_dropped for cell in cells),
    }


WAYS = {
    "random": "drawn at random",
    "same": "drawn at random among those that have the query's value in a column",
    "bm25": "nearest to the query by BM25",
    "embedding": "nearest to the query by embedding",
    "mmr": "near to the query and unlike each other (MMR)",
    "longest": "the longest",
    "shortest": "the shortest",
    "similar-length": "of a length like the query's",
}
DRAWS = {"item": "for each test row anew, seeded", "seed": "once per seed and shown for every test row"}


def _way(cell: CellRecord) -> tuple[str, str]:
    """How a cell's demonstrations were chosen: the settings that say so, and the same in words."""
    select = selection(cell) or "random"
    settings = {"select": None if select == "random" else select, "order": cell.order, "draw": cell.draw}
    words = [WAYS.get(select, f"chosen by {select}"), *([DRAWS[cell.draw]] if cell.draw else [])]
    ordered = f", order {cell.order}" if cell.order else ""
    return ", ".join(f"{key} = {value}" for key, value in settings.items() if value), " ".join(words) + ordered


def _prompts(record: RunRecord, settings: Sequence[Setting], kind: str) -> str:
    """The texts of one kind (`zero_shot` or `few_shot`) of each prompt, in full."""
    names = dict.fromkeys(setting.prompt for setting in settings)
    return "\n\n".join(_prompt(name, record.prompts[name], kind) for name in names if name in record.prompts)


def _prompt(name: str, facts: Mapping[str, Any], kind: str) -> str:
    """Texts in code fences, with the preamble in its place; then where the prompt comes from and its hash."""
    texts = prompt_texts(facts, kind)
    origin = [f"style {facts['style']}"] if facts.get("style", "plain") != "plain" else []
    origin += [f"{key} {facts[key]}" for key in ("language", "source") if facts.get(key)]
    # enough of the hash to distinguish prompts; results.json has all of it
    origin += [f"sha256 {facts['sha256'][:12]}…"] if facts.get("sha256") else []
    lines = [f"**Prompt {escape(name)}**" + (f" ({escape('; '.join(origin))})" if origin else "")]
    for part, text in texts.items():
        lines.append(f"{part}:\n\n" * (len(texts) > 1) + fence(text))
    return "\n\n".join(lines)


def prompt_texts(facts: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Part -> its text, with the preamble in its place: what a prompt of one kind (`zero_shot` or `few_shot`) is made
    of. In style `multiturn` a demonstration is a turn that asks as the row does, and one with its output.
    """
    preamble, style = str(facts.get("preamble", "")), facts.get("style", "plain")
    parts = {"system turn": str(facts["system"])} if facts.get("system") else {}
    if kind == "few_shot" and style == "multiturn":
        turn = str(facts.get("zero_shot", ""))
        parts |= {"user turn, of demonstrations too": turn, "assistant turn of a demonstration": "{output}"}
    else:
        own = flat({kind: facts.get(kind, {})})
        parts |= {key.partition(".")[2] or ("user turn" if style != "plain" else "text"): own[key] for key in own}
    return {part: text.replace("{preamble}", preamble) for part, text in parts.items()}


def fence(text: str, language: str = "text") -> str:
    """A code fence longer than any run of backticks inside it, so that no prompt can close it."""
    mark = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{mark}{language}\n{text}\n{mark}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
