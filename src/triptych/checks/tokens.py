"""Checks of special tokens and of the scored span: BOS, EOS, and that nothing but the output is scored."""

from __future__ import annotations

from triptych.checks.findings import REPORT, Check, Outputs, count, quoted, rendered_rows, some, text_of
from triptych.data import Row
from triptych.grid.rendered import RenderedExperiment, RenderedRows

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
    """Whose mistake a wrong special token is: the chat template's, where one wrote it; else ours or the tokenizer's."""
    return _CHAT_TEMPLATE if any(t.style != "plain" for t in experiment.templates.values()) else REPORT


def _template_text(experiment: RenderedExperiment, part: RenderedRows) -> str:
    template = experiment.templates[part.prompt]
    k = (part.cell.k if part.cell else 0) or (part.training.k if part.training else 0)
    return template.prompt("a", [_ANY_ROW] * k)
