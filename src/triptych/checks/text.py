"""What a tokenizer makes of the data's text: warnings, since each may be meant so."""

from __future__ import annotations

import re

from triptych.checks.findings import Check, Outputs, count, rendered_rows, short, some, text_of
from triptych.data import Row
from triptych.grid.rendered import RenderedExperiment
from triptych.models import TokenizerProfile


def round_trip(experiment: RenderedExperiment, outputs: Outputs) -> Check:
    """Whether decoding the tokens of every output gives its text."""
    name = "tokens decode to the output"
    rows = _all_rows(experiment)
    good = {text: outputs.decoded(text) == text for text in {row.target() for row in rows}}
    bad = [row for row in rows if not good[row.target()]]
    if not bad:
        return Check(name, True, count(len(rows), "row"))
    ids, first = tuple(row.id for row in bad), bad[0].target()
    detail = (
        f"{some(ids)} of {len(rows):,} come back as other text, "
        f"the first as {short(outputs.decoded(first))} instead of {short(first)}"
    )
    fix = "the tokenizer doesn't keep this text to the letter: what is scored and learned is the text it gives back"
    return Check(name, False, detail, ids, fix, warning=True)


def special_text(experiment: RenderedExperiment) -> Check:
    """Whether the data's own text spells special tokens, and what became of them."""
    name, profile = "no text of a special token in the data", experiment.profile
    texts = _special_tokens(profile)
    if not texts:
        return Check(name, True, "the tokenizer has none")
    pattern = re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))
    found: dict[str, list[str]] = {}
    for row in _all_rows(experiment):
        for text in dict.fromkeys(pattern.findall(f"{row.instruction}\n{row.target()}")):
            found.setdefault(text, []).append(row.id)
    if not found:
        return Check(name, True, f"{len(texts)} special tokens looked for")
    said = []
    # chat styles keep data data
    plain = any(experiment.templates[part.prompt].style == "plain" for part in experiment.parts)
    for text, ids in found.items():
        became = profile.encode(f"a{text}a") if plain else []
        how = f"became the special token {texts[text]}" if texts[text] in became else "was split into plain tokens"
        said.append(f"{text} in {some(ids)}, where it {how}")
    rows = tuple(dict.fromkeys(row for ids in found.values() for row in ids))
    fix = "remove the text from these rows unless it is meant: a special token there is read as one"
    return Check(name, False, "; ".join(said), rows, fix, warning=True)


def unknown_tokens(experiment: RenderedExperiment) -> Check:
    """Whether text was lost to the unknown token."""
    name, unknown = "no unknown tokens", getattr(experiment.profile.tokenizer, "unk_token_id", None)
    if unknown is None or unknown in (experiment.profile.bos_id, experiment.profile.eos_id):
        return Check(name, True, "the tokenizer knows every text")
    counts: dict[str, int] = {}
    for rendered in rendered_rows(experiment):
        if n := rendered.ids.count(unknown):
            counts[rendered.row_id] = max(n, counts.get(rendered.row_id, 0))
    if not counts:
        return Check(name, True, f"no {text_of(experiment.profile, unknown)} ({unknown})")
    detail = f"{sum(counts.values()):,} in {count(len(counts), 'row')}: {some(list(counts))}"
    fix = "the model can't tell these characters apart: replace them, or use a model whose tokenizer has them"
    return Check(name, False, detail, tuple(counts), fix, warning=True)


def _all_rows(experiment: RenderedExperiment) -> list[Row]:
    """Test rows, training rows that were looked at, and demonstrations that are shown, each once. Ids of the two files
    may be the same.
    """
    train = {row.id: row for row in experiment.data.train}
    seen: dict[tuple[bool, str], Row] = {}
    for part in experiment.parts:
        for row in part.rows:
            seen.setdefault((part.training is None, row.id), row)
    for rendered in rendered_rows(experiment):
        for row in (train[demo] for demo in rendered.demo_ids if demo in train):
            seen.setdefault((False, row.id), row)
    return list(seen.values())


def _special_tokens(profile: TokenizerProfile) -> dict[str, int]:
    """Text of each special token -> its id."""
    added = getattr(profile.tokenizer, "added_tokens_decoder", {})
    found = {token.content: number for number, token in added.items() if token.special}
    for text in getattr(profile.tokenizer, "all_special_tokens", []):
        found.setdefault(text, profile.tokenizer.convert_tokens_to_ids(text))
    return {text: number for text, number in found.items() if text.strip()}
