"""Checks of tokens: BOS, EOS, nothing but the output is scored; and what a tokenizer makes of the data's text, where a
failed check is a warning, since each may be intended.
"""

from __future__ import annotations

import re

from triptych.checks.findings import REPORT, Check, Outputs, count, quoted, rendered_rows, short, some, text_of
from triptych.data import Row
from triptych.grid.rendered import RenderedExperiment, RenderedRows
from triptych.models import TokenizerProfile

_ANY_ROW = Row("any", "a", "a")
_CHAT_TEMPLATE = (
    "correct chat_template in the model's tokenizer_config.json (or chat_template.jinja), or use a prompt with "
    "`style: plain`, which doesn't use it"
)


def one_bos(experiment: RenderedExperiment) -> Check:
    """Whether every prompt begins with BOS, and none has a second one that the data did not spell."""
    name, bos = "one BOS, at the start", experiment.profile.bos_id
    if bos is None:
        return Check(name, True, "the model has no BOS, and none is put")
    text = text_of(experiment.profile, bos)
    # shared: then one at the end is the EOS, and between demonstrations it may be meant
    shared = bos == experiment.profile.eos_id
    train = {row.id: row for row in experiment.data.train}
    missing: list[str] = []
    doubled: list[str] = []
    inside = 0
    for part in experiment.parts:
        # a chat template decides for itself on BOS: it may put none, or one before every turn, but never two at once
        chat = experiment.templates[part.prompt].style != "plain"
        from_template = text in _template_text(experiment, part)
        for row, rendered in zip(part.rows, part.rendered, strict=True):
            if rendered.ids[0] != bos and not chat:
                missing.append(row.id)
            again = rendered.ids[:2] == (bos, bos) if shared or chat else bos in rendered.ids[1:]
            if not again:
                continue
            sources = [row, *(train[demo] for demo in rendered.demo_ids if demo in train)]
            from_data = any(text in words for source in sources for words in (source.instruction, source.target()))
            if from_template or not from_data:  # not from the data either: the tokenizer puts one of its own
                doubled.append(row.id)
            else:
                inside += 1
    if missing:
        return Check(name, False, f"no {text} before {some(missing)}", tuple(missing), REPORT)
    if doubled:
        templates = [n for n, t in experiment.templates.items() if text in f"{t.preamble}{t.zero_shot}{t.few_shot}"]
        cause = f"the text of {quoted(templates)}" if templates else "the tokenizer or its chat template"
        detail = f"{text} occurs again after the start, put there by {cause}: {some(doubled)}"
        fix = f"take {text} out of the template: it is put before every prompt" if templates else _fault_of(experiment)
        return Check(name, False, detail, tuple(dict.fromkeys(doubled)), fix)
    also = f"; {count(inside, 'rendering')} with {text} in the data's own text" if inside else ""
    return Check(name, True, f"{text} ({bos}) once, before every prompt{also}")


def eos_scored(experiment: RenderedExperiment) -> Check:
    """Whether the last scored token is EOS, or what ends a turn of the chat template."""
    name, eos = "EOS last and scored", experiment.profile.eos_id
    bad: list[str] = []
    for part in (part for part in experiment.parts if part.answered):
        if experiment.templates[part.prompt].style == "plain":
            bad += [r.row_id for r in part.rendered if r.ids[-1] != eos or r.n_scored < 1]
        else:  # the token that ends a turn, which a template may follow with a line break
            ends = set(experiment.profile.chat_stop_ids())
            bad += [r.row_id for r in part.rendered if ends.isdisjoint(r.ids[r.n_prompt :])]
    detail = f"without {text_of(experiment.profile, eos)} as the last scored token: {some(bad)}" if bad else ""
    note = f"; {experiment.profile.note}" if experiment.profile.note else ""
    fix = _fault_of(experiment) if bad else None
    return Check(name, not bad, detail or f"{text_of(experiment.profile, eos)} ({eos}){note}", tuple(bad), fix)


def prompt_masked(experiment: RenderedExperiment, outputs: Outputs) -> Check:
    """Whether the tokens of the output, and no others, are scored."""
    name, n = "prompt masked: the output and EOS are scored", 0
    bad: dict[bool, list[str]] = {True: [], False: []}
    for part in (part for part in experiment.parts if part.answered):
        plain = experiment.templates[part.prompt].style == "plain"
        same = outputs.scored_alone if plain else outputs.answered
        for row, rendered in zip(part.rows, part.rendered, strict=True):
            n += 1
            if rendered.n_prompt < 1 or not same(row, rendered):
                bad[plain].append(row.id)
    if bad[True]:
        rows = bad[True] + bad[False]
        return Check(name, False, f"other tokens than the output's are scored: {some(rows)}", tuple(rows), REPORT)
    if bad[False]:
        detail = f"the model's chat template does not leave the whole output: {some(bad[False])}"
        return Check(name, False, detail, tuple(bad[False]), _CHAT_TEMPLATE)
    sizes = [(r.n_scored, len(r.ids)) for r in rendered_rows(experiment)]
    scored, tokens = map(sum, zip(*sizes, strict=True)) if sizes else (0, 0)
    return Check(name, True, f"{scored:,} of {tokens:,} tokens scored in {count(n, 'rendering')}")


def _fault_of(experiment: RenderedExperiment) -> str:
    """What to do about a wrong special token: it comes from the chat template, where one wrote it; else report it."""
    return _CHAT_TEMPLATE if any(t.style != "plain" for t in experiment.templates.values()) else REPORT


def _template_text(experiment: RenderedExperiment, part: RenderedRows) -> str:
    template = experiment.templates[part.prompt]
    k = (part.cell.k if part.cell else 0) or (part.training.k if part.training else 0)
    return template.prompt("a", [_ANY_ROW] * k)


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
    rows_with: dict[str, list[str]] = {}
    for row in _all_rows(experiment):
        for text in dict.fromkeys(pattern.findall(f"{row.instruction}\n{row.target()}")):
            rows_with.setdefault(text, []).append(row.id)
    if not rows_with:
        return Check(name, True, f"{len(texts)} special tokens looked for")
    details = []
    # chat styles keep data data
    plain = any(experiment.templates[part.prompt].style == "plain" for part in experiment.parts)
    for text, ids in rows_with.items():
        became = profile.encode(f"a{text}a") if plain else []
        how = f"became the special token {texts[text]}" if texts[text] in became else "was split into plain tokens"
        details.append(f"{text} in {some(ids)}, where it {how}")
    rows = tuple(dict.fromkeys(row for ids in rows_with.values() for row in ids))
    fix = "remove the text from these rows unless it is meant: a special token there is read as one"
    return Check(name, False, "; ".join(details), rows, fix, warning=True)


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
    """Rows that were rendered and demonstrations that are shown, each once. Ids of the two files may be the same."""
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
    special = {token.content: number for number, token in added.items() if token.special}
    for text in getattr(profile.tokenizer, "all_special_tokens", []):
        special.setdefault(text, profile.tokenizer.convert_tokens_to_ids(text))
    return {text: number for text, number in special.items() if text.strip()}
