"""`report.html`: one file that asks the network for nothing, with the answer first and every row within reach.

Names, prompts and rows are other people's words. Three things keep them words: the template escapes, the scripts set
text and never HTML, and the page's own policy lets no script run but ours, told by its hash, and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from triptych.report.groups import STRATEGY_NAMES
from triptych.report.html.packing import pack
from triptych.report.numbers import together
from triptych.report.series import CHARTS
from triptych.report.study import Study
from triptych.report.tables.overview import flat
from triptych.report.tables.rendering import numeric_columns, write_value
from triptych.report.tables.table import Table
from triptych.report.text.markdown import Contents, draw_facts, facts, template
from triptych.version import __version__

ASSETS = Path(__file__).parent.parent / "assets"
SCRIPTS = ("data.js", "chart.js", "plots.js", "detail.js", "explorer.js", "main.js")
AVERAGES = Table(
    "The four averages",
    ("average", "formula", "what it says"),
    (
        ("ppl_mean", "mean of exp(nllᵢ / nᵢ)", "the study's number; a few hard rows can rule it"),
        ("ppl_corpus", "exp(Σ nllᵢ / Σ nᵢ)", "“perplexity” in most papers; long rows weigh more"),
        ("ppl_geometric", "exp(mean of nllᵢ / nᵢ)", "every row weighs the same, none rules"),
        ("bits_per_char", "Σ nllᵢ / ln 2 / Σ characters", "comparable across tokenizers"),
    ),
)


def render_html(study: Study, contents: Contents, parts: Mapping[str, str], kept_note: str = "") -> str:
    """The whole file.

    Args:
        study: the run.
        contents: what is shown beside it.
        parts: packed data by name (`payload`).
        kept_note: what the records don't hold about rows, and how to get it; empty where all is there.
    """
    library, policy = _library()
    page = template("report.html.j2", {"value": write_value, "glue": _glued}, autoescape=True)
    drawn = draw_facts([cell for cell in study.cells if cell.strategy == "few_shot"])
    return page.render(
        **facts(study, contents),
        evidence=contents.evidence,
        slice_tables=contents.slices,
        kept_note=kept_note,
        parts={**parts, "plotly": library},
        policy=policy,
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=_script(),
        version=__version__,
        averages=AVERAGES,
        numeric=numeric_columns,
        prompt_texts=_prompt_texts,
        panels=_panels(study),
        n_rows=study.n_rows,
        shown=_shown(drawn) if study.record.few_shot else "",
        repeated=_repeated(study),
        charts=[name for name, make in CHARTS.items() if make(study)],
    )


def _glued(text: str) -> str:
    """`p < 0.001` stays on one line."""
    return re.sub(r"\bp ([<>=]) ", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)


def _panels(study: Study) -> list[dict[str, str]]:
    """The best of each strategy, cheapest first: three panels, as the name says."""
    found = []
    for strategy, setting in study.best.items():
        over = setting.over()
        level, *std = together(over.mean, *([over.std] if over.std is not None else []))
        bounds = study.intervals.get(setting.label)
        what = [f"prompt {setting.prompt}"]
        what += [f"k = {setting.k}"] if setting.k else []
        what += [setting.select] if setting.select not in (None, "random") else []
        what += [f"mean of {over.n} {setting.repeated}"] if setting.repeated else []
        found.append(
            {
                **{"strategy": strategy, "name": _capital(STRATEGY_NAMES[strategy]), "ppl": level},
                **{"std": std[0] if std else "", "what": ", ".join(what)},
                "interval": f"[{', '.join(together(*bounds))}]" if bounds else "",
            }
        )
    return found


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _shown(facts: Mapping[str, Any]) -> str:
    ways = "; ".join(f"{how} ({what})" for what, how in facts["ways"].items())
    dropped = facts["dropped"]
    kept = (
        f"{dropped:,} demonstrations did not fit the context" if dropped else "every demonstration fitted the context"
    )
    return f"Demonstrations: training pairs, {ways}; k = {', '.join(map(str, facts['ks']))}. {facts['seeds']}; {kept}."


def _repeated(study: Study) -> str:
    """What the ± in the panels is over."""
    kinds = {setting.repeated for setting in study.best.values()}
    names = {"seeds": "over seeds of the demonstrations", "trainings": "over training seeds"}
    return " or ".join(text for kind, text in names.items() if kind in kinds)


def _prompt_texts(prompt: Mapping[str, Any]) -> dict[str, str]:
    """Part -> its text in full, the preamble in its place."""
    preamble = str(prompt.get("preamble", ""))
    texts = flat({key: prompt[key] for key in ("zero_shot", "few_shot") if key in prompt})
    return {
        part.replace("_", "-").replace(".", ", "): text.replace("{preamble}", preamble) for part, text in texts.items()
    }


def _script() -> str:
    parts = [(ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return '"use strict";\n' + "\n".join(parts)


@cache
def _library() -> tuple[str, str]:
    """plotly.js as its PyPI package ships it, packed, and the policy that lets it and our script run."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package plotly, which brings plotly.js, is not installed")
    content = (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()
    allowed = " ".join(_source(script) for script in (content, _script().encode()))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return pack(content), policy


def _source(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
