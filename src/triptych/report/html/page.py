"""`report.html`: one file that asks the network for nothing, with the answer first and every row within reach.

Names, prompts and rows are other people's words. Three things keep them from running as code: the template escapes,
the scripts set text and never HTML, and the page's own policy allows only our scripts, by their hashes, and no loading.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from triptych.report.groups import STRATEGY_NAMES, capital
from triptych.report.html.charts import CHARTS, captions
from triptych.report.html.packing import pack
from triptych.report.html.payload import shown_metrics
from triptych.report.numbers import spread
from triptych.report.study import Study
from triptych.report.tables.cells import baselines_note
from triptych.report.tables.table import Table, numeric_columns, write_value
from triptych.report.text.markdown import Contents, draw_facts, facts, prompt_texts, template
from triptych.version import __version__

ASSETS = Path(__file__).parent.parent / "assets"
SCRIPTS = ("data.js", "metrics.js", "chart.js", "plots.js", "detail.js", "explorer.js", "view.js", "main.js")
REFRESH = "refresh.js"
"""Of the report of a run that goes on."""
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
    """The whole file, from packed data by name (`payload`).

    `kept_note`: what the records don't hold about rows, and how to get it; empty where nothing is missing.
    """
    script, policy = _scripts(refreshing=study.so_far is not None)
    # `p < 0.001` stays on one line
    glue = partial(re.sub, r"\bp ([<>=]) ", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}")
    page = template("report.html.j2", {"value": write_value, "glue": glue}, autoescape=True)
    drawn = draw_facts([cell for cell in study.cells if cell.strategy == "few_shot"])
    return page.render(
        **facts(study, contents),
        evidence=contents.evidence,
        slice_tables=contents.slices,
        kept_note=kept_note,
        parts={**parts, "plotly": _packed_library()},
        policy=policy,
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=script,
        version=__version__,
        averages=AVERAGES,
        numeric=numeric_columns,
        prompt_texts=_prompt_texts,
        switch=[_shown_by(study.by(metric)) for metric in shown_metrics(study)],
        panels=_panels(study),
        wrong=any(metric.zero_or_one for metric in study.metrics),
        n_rows=study.n_rows,
        shown=_shown(drawn) if study.record.few_shot else "",
        charts={name: captions(study)[name] for name, make in CHARTS.items() if make(study)},
    )


def _shown_by(study: Study) -> dict[str, Any]:
    """What the page shows of one metric: its panels, and what they are."""
    better = "higher" if study.metric.higher_is_better else "lower"
    what = f"{capital(study.metric.label)} of {study.n_rows} test rows, {better} is better; "
    what += "the best setting of each strategy."
    return {
        "name": study.metric.name,
        "label": capital(study.metric.label),
        "panels": _panels(study),
        "what": " ".join([what, *(baselines_note(study) if study.metric.needs == "options" else [])]),
        "repeated": _repeated(study),
    }


def _panels(study: Study) -> list[dict[str, str]]:
    """The best of each strategy, cheapest first: three panels, as the name says."""
    panels = []
    for strategy, setting in study.best.items():
        over = setting.over(study.average)
        level, _, std = spread(over).partition(" ± ")
        what = [f"prompt {setting.prompt}", *setting.demo_words]
        what += [f"mean of {over.n} {setting.repeated}"] if setting.repeated else []
        panel = {"strategy": strategy, "name": capital(STRATEGY_NAMES[strategy]), "ppl": level, "std": std}
        interval = write_value(study.intervals.get(setting.label))
        panels.append({**panel, "what": ", ".join(what), "interval": interval})
    return panels


def _shown(facts: Mapping[str, Any]) -> str:
    ways = "; ".join(f"{how} ({what})" for what, how in facts["ways"].items())
    fit = f"{n:,} demonstrations did not fit" if (n := facts["dropped"]) else "every demonstration fitted"
    ks = ", ".join(map(str, facts["ks"]))
    return f"Demonstrations: training pairs, {ways}; k = {ks}. {facts['seeds']}; {fit} the context."


def _repeated(study: Study) -> str:
    """What the ± in the panels is over."""
    names = {"seeds": "over seeds of the demonstrations", "trainings": "over training seeds"}
    return " or ".join(text for kind, text in names.items() if kind in {s.repeated for s in study.best.values()})


def _prompt_texts(prompt: Mapping[str, Any]) -> dict[str, str]:
    """Part -> its text in full, the preamble in its place; what both kinds have in common stands once."""
    texts: dict[str, str] = {}
    for kind in ("zero_shot", "few_shot"):
        for part, text in prompt_texts(prompt, kind).items() if kind in prompt else ():
            name = part if part == "system turn" else f"{kind.replace('_', '-')}, {part}".removesuffix(", text")
            texts[name] = text
    return texts


@cache
def _library() -> bytes:
    """plotly.js as its PyPI package ships it."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package plotly, which brings plotly.js, is not installed")
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()


@cache
def _packed_library() -> str:
    return pack(_library())


@cache
def _scripts(*, refreshing: bool) -> tuple[str, str]:
    """Our script, and the policy that allows it and plotly.js only."""
    names = [*SCRIPTS, REFRESH] if refreshing else SCRIPTS
    script = "\n".join(['"use strict";', *((ASSETS / name).read_text(encoding="utf-8") for name in names)])
    digests = [base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (_library(), script.encode())]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return script, policy
