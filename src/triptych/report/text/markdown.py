"""`report.md`: the answer first, then the study's sections in the study's order."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.records import CellRecord, RunRecord
from triptych.records.schema import Strategy
from triptych.report.groups import Setting
from triptych.report.numbers import number, spread
from triptych.report.samples import Texts
from triptych.report.seeds import selection
from triptych.report.study import Study
from triptych.report.tables.overview import flat, provenance_table
from triptych.report.tables.rendering import escape, to_markdown
from triptych.report.tables.table import Table
from triptych.report.text.answer import answer

__all__ = ["SELECTED", "TEMPLATES", "command", "draw_facts", "duration", "render_markdown"]

TEMPLATES = Path(__file__).parent.parent / "templates"
SELECTED = {
    "last": "the last one",
    "dev": "chosen by its perplexity on held-out training rows (dev)",
    "test": "chosen by its perplexity on the test rows",
}


def render_markdown(
    study: Study,
    tables: Mapping[str, Table],
    *,
    figures: Collection[str],
    warnings: Sequence[str],
    more: Sequence[Table] = (),
    written: Texts | None = None,
) -> str:
    """Fill the template; sections without cells are left out.

    `figures`: those that were drawn. `more`: tables of uncertainty and of slices, shown after the comparison.
    `written`: what is said of texts, and rows side by side.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # markdown, not HTML: `md` escapes what users named
    )
    environment.filters |= {
        "md": escape,
        "number": number,
        "spread": spread,
        "count": lambda value: f"{value:,}",
        "table": to_markdown,
        "fence": fence,
        "duration": duration,
    }
    text = environment.get_template("report.md.j2").render(
        _context(study, tables, figures, warnings), more=more, written=written
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _context(
    study: Study, tables: Mapping[str, Table], figures: Collection[str], warnings: Sequence[str]
) -> dict[str, Any]:
    record = study.completed
    strategies: tuple[Strategy, ...] = ("qlora", "zero_shot", "few_shot")
    by_strategy: dict[str, list[Setting]] = {strategy: study.of(strategy) for strategy in strategies}
    shown = dict.fromkeys(setting.prompt for setting in by_strategy["zero_shot"])
    few_shot = dict.fromkeys(setting.prompt for setting in by_strategy["few_shot"])
    return {
        **by_strategy,
        "record": record,
        "tune": record.tune,
        "selected": SELECTED[record.tune.selected_by] if record.tune else "",
        "sections": {
            **{strategy: bool(found) for strategy, found in by_strategy.items()},
            "qlora": bool(by_strategy["qlora"] or record.tune),
        },
        "answer": answer(study),
        "intervals_shown": bool(record.comparisons),
        "warnings": warnings,
        "figures": figures,
        "curve_band": sum(p.split == "test" and p.ci_low is not None for p in record.curve) > 1,
        "tables": {**tables, "provenance": provenance_table(record)},
        "command": command(record),
        "prompts": lambda chosen, kind: _prompts(record, chosen, kind),
        "zero_shot_prompts": list(shown),
        "few_shot_prompts": list(few_shot),
        **draw_facts([cell for cell in record.cells if cell.strategy == "few_shot"]),
    }


def command(record: RunRecord) -> str:
    """The command line that made the run; empty where it isn't known."""
    kept = record.provenance.get("command", "")
    return " ".join(kept) if isinstance(kept, list | tuple) else str(kept)


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
    known = {"select": None if select == "random" else select, "order": cell.order, "draw": cell.draw}
    words = [WAYS.get(select, f"chosen by {select}"), *([DRAWS[cell.draw]] if cell.draw else [])]
    ordered = f", order {cell.order}" if cell.order else ""
    return ", ".join(f"{key} = {value}" for key, value in known.items() if value), " ".join(words) + ordered


def _prompts(record: RunRecord, chosen: Sequence[str], kind: str) -> str:
    """The texts of one kind (`zero_shot` or `few_shot`) of each prompt, in full."""
    return "\n\n".join(_prompt(name, record.prompts[name], kind) for name in chosen if name in record.prompts)


def _prompt(name: str, facts: Mapping[str, Any], kind: str) -> str:
    """Texts in code fences, with the preamble in its place; then where the prompt comes from and its hash."""
    texts = flat({kind: facts.get(kind, {})})
    preamble = str(facts.get("preamble", ""))
    origin = [f"{key} {facts[key]}" for key in ("language", "source") if facts.get(key)]
    # enough of the hash to tell prompts apart; results.json has all of it
    origin += [f"sha256 {facts['sha256'][:12]}…"] if facts.get("sha256") else []
    lines = [f"**Prompt {escape(name)}**" + (f" ({escape('; '.join(origin))})" if origin else "")]
    for key, text in texts.items():
        part = key.partition(".")[2]
        lines.append(f"{part}:\n\n" * bool(part) + fence(text.replace("{preamble}", preamble)))
    return "\n\n".join(lines)


def fence(text: str, language: str = "text") -> str:
    """A code fence longer than any run of backticks inside it, so that no prompt can close it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text}\n{mark}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
