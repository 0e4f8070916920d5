"""Tables of what the models wrote: its scores, how the cells differ on the same rows, and what ended the rows.

chrF++ and BLEU of a cell are over the corpus (n-grams are counted over all rows together); intervals and differences
are of the mean of the rows' own chrF++, which is another number near it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triptych.records.schema import GenerationRecord
from triptych.report.numbers import Interval
from triptych.report.statistics import intervals
from triptych.report.study import Study
from triptych.report.tables.overview import comparisons_table
from triptych.report.tables.table import Table

ENDS = {"eos": "ended by itself", "stop_text": "cut before a stop text", "length": "cut at the limit"}
FINDINGS = {
    **{"missing": "missing", "unknown": "of no row", "repeated": "written twice", "order": "in another order"},
    **{"empty": "empty", "special": "special tokens", "broken": "broken characters", "echo": "prompt repeated"},
    **{"parrot": "instruction repeated", "cut": "cut", "long": "far too long", "loop": "in circles"},
    "greeting": "greeting first",
}
"""Words for every kind of finding of `generate.check`."""


def written_tables(study: Study) -> dict[str, Table]:
    """The tables of texts by the name of their files; none for a run that wrote none."""
    if not study.record.generations:
        return {}
    tables = {"generations": generations_table(study.record.generations, study.cell_names)}
    if study.text_comparisons:
        tables["text_comparisons"] = comparisons_table(study.text_comparisons, study.cell_names)
    return tables


def generations_table(generations: Sequence[GenerationRecord], short: Mapping[str, str]) -> Table:
    """chrF++ and BLEU of each cell's texts, how sure that is, and what ended the rows; `short` names cells."""
    bounds = intervals([list(g.row_chrf.values()) for g in generations])
    rows = tuple(
        (
            *(short.get(g.cell, g.cell), g.chrf, g.bleu, sum(g.row_chrf.values()) / len(g.row_chrf), Interval(*of_it)),
            _counted(g.stopped_by, ENDS),
            # "cut" says the same as that the limit ended the row
            _counted({kind: rows for kind, rows in g.findings.items() if kind != "cut"}, FINDINGS) or "nothing",
            *(g.n_rows, g.n_tokens, g.seconds),
        )
        for g, of_it in zip(generations, bounds, strict=True)
    )
    columns = ("cell", "chrF++", "BLEU", "row chrF++", "95 % interval", "what ended the rows", "found in the texts")
    return Table("What the models wrote", (*columns, "rows", "tokens", "seconds"), rows, _note(generations))


def _counted(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    return ", ".join(f"{words.get(kind, kind)}: {count:,}" for kind, count in counts.items())


def _note(generations: Sequence[GenerationRecord]) -> str:
    signatures = dict.fromkeys(
        text for g in generations for text in (f"chrF++ {g.chrf_signature}", f"BLEU {g.bleu_signature}")
    )
    return (
        "chrF++ and BLEU: over all rows, 0 to 100, higher is better. Row chrF++: mean of the rows' own, with its "
        f"interval (BCa bootstrap over rows). {_how(generations)}Signatures: {'; '.join(signatures)}."
    )


def _how(generations: Sequence[GenerationRecord]) -> str:
    """How the texts were written, where it is the same for all."""
    first, keys = generations[0].settings, ("temperature", "beams", "max_new_tokens")
    if "temperature" not in first or any(g.settings.get(key) != first.get(key) for g in generations for key in keys):
        return ""
    way = f"{first['beams']} beams" if first.get("beams", 1) > 1 else "greedy"
    way = f"drawn at temperature {first['temperature']:g}, seed {first.get('seed')}" if first["temperature"] else way
    most = f", at most {first['max_new_tokens']:,} new tokens" if "max_new_tokens" in first else ""
    return f"Written: {way}{most}. "
