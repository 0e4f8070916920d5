"""`report.md`: the answer first, then the study's sections in the study's order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.records import CellRecord, RunRecord
from triptych.report.answer import answer
from triptych.report.contenders import Setting, settings
from triptych.report.fonts import WHY
from triptych.report.numbers import number, spread
from triptych.report.rendering import escape, to_markdown
from triptych.report.samples import Texts
from triptych.report.seeds import selection
from triptych.report.tables import Table, flat

__all__ = ["SELECTED", "TEMPLATES", "draw_facts", "duration", "figure_key", "render_markdown"]

TEMPLATES = Path(__file__).parent / "templates"
SELECTED = {
    "last": "the last one",
    "dev": "chosen by its perplexity on held-out training rows (dev)",
    "test": "chosen by its perplexity on the test rows",
}


def render_markdown(
    record: RunRecord,
    tables: Mapping[str, Table],
    *,
    figures: Mapping[str, Mapping[str, str]],
    warnings: Sequence[str],
    more: Sequence[Table] = (),
    written: Texts | None = None,
) -> str:
    """Fill the template; sections without cells are left out.

    `figures`: those that were drawn, each with its key (`figure_key`). `more`: tables of certainty and of slices, shown
    after the comparison. `written`: what is said of texts, and rows side by side.
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
        _context(record, tables, figures, warnings), more=more, written=written
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _context(
    record: RunRecord, tables: Mapping[str, Table], figures: Mapping[str, Mapping[str, str]], warnings: Sequence[str]
) -> dict[str, Any]:
    by_strategy: dict[str, list[Setting]] = {"qlora": [], "zero_shot": [], "few_shot": []}
    for setting in settings(record.cells):
        by_strategy[setting.strategy].append(setting)
    shown = dict.fromkeys(setting.prompt for setting in by_strategy["zero_shot"])
    few_shot = dict.fromkeys(setting.prompt for setting in by_strategy["few_shot"])
    provenance = {key: value for key, value in record.provenance.items() if key != "command"}
    command = record.provenance.get("command", "")
    return {
        **by_strategy,
        "record": record,
        "tune": record.tune,
        "selected": SELECTED[record.tune.selected_by] if record.tune else "",
        "sections": {
            **{strategy: bool(found) for strategy, found in by_strategy.items()},
            "qlora": bool(by_strategy["qlora"] or record.tune),
        },
        "answer": answer(record.comparisons, record.cells, record.few_shot),
        "intervals_shown": bool(record.comparisons),
        "warnings": warnings,
        "figures": figures,
        "key": lambda name: figure_key(figures.get(name, {})),
        "curve_band": sum(p.split == "test" and p.ci_low is not None for p in record.curve) > 1,
        "tables": {**tables, "provenance": Table("Provenance", ("what", "value"), tuple(flat(provenance).items()))},
        "command": " ".join(command) if isinstance(command, list | tuple) else str(command),
        "prompts": lambda chosen, kind: _prompts(record, chosen, kind),
        "zero_shot_prompts": list(shown),
        "few_shot_prompts": list(few_shot),
        **draw_facts([cell for cell in record.cells if cell.strategy == "few_shot"]),
    }


def figure_key(key: Mapping[str, str]) -> str:
    """What a figure writes for names that can't be drawn, and why; empty where it writes all names as they are."""
    if not key:
        return ""
    return f"Written for a name in the figure: {', '.join(f'{short} = {name}' for short, name in key.items())} ({WHY})."


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
