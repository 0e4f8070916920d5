"""What the models wrote: its scores, how the cells differ on the same rows, and what ended the rows.

chrF++ and BLEU of a cell are over the corpus (n-grams are counted over all rows together); intervals and differences
are of the mean of the rows' own chrF++, which is another number and lies near it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from triptych.records import CellRecord, Comparison, RunRecord
from triptych.records.schema import GenerationRecord
from triptych.report.contenders import STRATEGIES, names, settings
from triptych.report.numbers import Interval, difference, number, p_text
from triptych.report.statistics import a_is_better, compare_rows, holm, intervals, told_apart
from triptych.report.tables import Table, comparisons_table

__all__ = [
    "cell_names",
    "generations_table",
    "plain_name",
    "text_comparisons",
    "with_text_comparisons",
    "written_said",
    "written_tables",
]

MOST_PAIRED = 6
"""Up to here every cell is compared with every other: 15 comparisons. More are compared with the first."""
ENDS = {"eos": "ended by itself", "stop_text": "cut before a stop text", "length": "cut at the limit"}
FINDINGS = {
    **{"empty": "empty", "special": "special tokens", "broken": "broken characters", "echo": "prompt repeated"},
    **{"long": "far too long", "loop": "in circles"},
}


def text_comparisons(generations: Sequence[GenerationRecord]) -> tuple[Comparison, ...]:
    """Paired differences of the rows' chrF++ between cells, the dearer strategy minus the cheaper, corrected together.

    Every two cells where there are few (`MOST_PAIRED`), else each against the first, which is the first zero-shot cell
    where there is one: no cell is chosen by its score.

    Raises:
        ValueError: the cells don't hold the same rows.
    """
    ordered = sorted(generations, key=_cost)
    pairs = [(b, a) for a, b in combinations(ordered, 2)]
    if len(ordered) > MOST_PAIRED:
        pairs = [(other, ordered[0]) for other in ordered[1:]]
    made = [compare_rows(a.cell, a.row_chrf, b.cell, b.row_chrf, metric="chrf") for a, b in pairs]
    corrected = holm([c.p_value for c in made])
    return tuple(c.model_copy(update={"p_holm": p}) for c, p in zip(made, corrected, strict=True))


def _cost(generation: GenerationRecord) -> int:
    places = {strategy: place for place, strategy in enumerate(STRATEGIES)}
    return next((place for name, place in places.items() if generation.cell.startswith(f"{name}/")), len(places))


def with_text_comparisons(record: RunRecord) -> RunRecord:
    """Fill in the differences of chrF++ where a run wrote texts and didn't compare them."""
    if record.text_comparisons or len(record.generations) < 2:
        return record
    return record.model_copy(update={"text_comparisons": text_comparisons(record.generations)})


def cell_names(cells: Sequence[CellRecord]) -> dict[str, str]:
    """Cell -> a short name for people: its setting's, and its seeds where the setting has several cells."""
    every = settings(cells)
    short, found = names(every), {}
    for setting in every:
        for cell in setting.cells:
            repeat = [f"training seed {cell.train_seed}"] if cell.train_seed is not None else []
            repeat += [f"seed {cell.seed}"] if cell.seed is not None else []
            parts = [short[setting.label], *(repeat if len(setting.cells) > 1 else [])]
            found[cell.cell] = ", ".join(parts)
    return found


def plain_name(name: str) -> str:
    """`few-shot k=10`: a comma and a capital less, for the middle of a sentence and for narrow columns."""
    return name.replace(", ", " ").replace("Few-shot", "few-shot").replace("Zero-shot", "zero-shot")


def written_tables(record: RunRecord) -> dict[str, Table]:
    """The tables of texts by the name of their files; none for a run that wrote none."""
    if not record.generations:
        return {}
    short = cell_names(record.cells)
    tables = {"generations": generations_table(record.generations, short)}
    if record.text_comparisons:
        tables["text_comparisons"] = comparisons_table(record.text_comparisons, short)
    return tables


def generations_table(generations: Sequence[GenerationRecord], short: Mapping[str, str]) -> Table:
    """chrF++ and BLEU of each cell's texts, how sure that is, and what ended the rows; `short` names cells."""
    bounds = intervals([list(g.row_chrf.values()) for g in generations])
    rows = tuple(
        (
            *(short.get(g.cell, g.cell), g.chrf, g.bleu, sum(g.row_chrf.values()) / len(g.row_chrf), Interval(*of_it)),
            *(_counted(g.stopped_by, ENDS), _found(g) or "nothing"),
            *(g.n_rows, g.n_tokens, g.seconds),
        )
        for g, of_it in zip(generations, bounds, strict=True)
    )
    columns = ("cell", "chrF++", "BLEU", "row chrF++", "95 % interval", "what ended the rows", "found in the texts")
    return Table("What the models wrote", (*columns, "rows", "tokens", "seconds"), rows, _note(generations))


def _counted(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    return ", ".join(f"{words.get(kind, kind)}: {count:,}" for kind, count in counts.items())


def _found(generation: GenerationRecord) -> str:
    # "cut" says the same as that the limit ended the row
    return _counted({kind: rows for kind, rows in generation.findings.items() if kind != "cut"}, FINDINGS)


def _note(generations: Sequence[GenerationRecord]) -> str:
    signatures = dict.fromkeys(
        f"{name} {text}"
        for g in generations
        for name, text in (("chrF++", g.chrf_signature), ("BLEU", g.bleu_signature))
    )
    return (
        "chrF++ and BLEU: over all rows, 0 to 100, higher is better. Row chrF++: mean of the rows' own, with its "
        f"interval (BCa bootstrap over rows). {_how(generations)}Signatures: {'; '.join(signatures)}."
    )


def _how(generations: Sequence[GenerationRecord]) -> str:
    """How the texts were written, where it is the same for all."""
    known = [g.settings for g in generations]
    first = known[0]
    if any(other.get(key) != first.get(key) for other in known for key in ("temperature", "beams", "max_new_tokens")):
        return ""
    if "temperature" not in first:
        return ""
    way = f"{first['beams']} beams" if first.get("beams", 1) > 1 else "greedy"
    way = f"drawn at temperature {first['temperature']:g}, seed {first.get('seed')}" if first["temperature"] else way
    most = f", at most {first['max_new_tokens']:,} new tokens" if "max_new_tokens" in first else ""
    return f"Written: {way}{most}. "


def written_said(record: RunRecord) -> list[str]:
    """Whether the texts are any better, in sentences: the cell with the highest mean row chrF++ against the others."""
    if len(record.generations) < 2 or not record.text_comparisons:
        return []
    short = {cell: plain_name(name) for cell, name in cell_names(record.cells).items()}
    means = {g.cell: sum(g.row_chrf.values()) / len(g.row_chrf) for g in record.generations}
    top = max(means, key=lambda cell: means[cell])
    count = f"{record.generations[0].n_rows:,} rows"
    first = f"By the chrF++ of its texts {short.get(top, top)} comes first: a mean of {number(means[top])} on {count}."
    pairs = [c for c in record.text_comparisons if top in (c.a, c.b)]
    better = [c for c in pairs if told_apart(c)]
    rest = [c for c in pairs if not told_apart(c)]
    said = [f"{_other(c, top, short)} {_margin(c)}" for c in better]
    first += f" Beyond chance it is better than {'; '.join(said)}." if said else ""
    first += f" It can't be told from {'; '.join(_other(c, top, short) for c in rest)}." if rest else ""
    return [first]


def _other(c: Comparison, top: str, short: Mapping[str, str]) -> str:
    other = c.b if c.a == top else c.a
    return short.get(other, other)


def _margin(c: Comparison) -> str:
    low, high = sorted((abs(c.ci_low), abs(c.ci_high)))
    rows = c.wins if a_is_better(c) else c.losses
    by = difference(abs(c.difference), low, high)
    return f"by {by} ({p_text(c.p_holm)} after Holm correction, better on {rows:,} of {c.n_rows:,} rows)"
