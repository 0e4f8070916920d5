"""Generation: prompts in, texts out. A row's text does not depend on the rows that are decoded with it.

    prompts ──► groups of a shared prefix ──► batches ──► prefix once, prompts packed, then a token a row at a time

Whether a model's rows can be decoded together is not assumed but tried (`plan`). If they can't (a warning says why),
and for beams, `model.generate` writes them (`hf_generate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from triptych.generate.attention import DecodeBatch
from triptych.generate.choose import Chooser
from triptych.generate.hf_generate import hf_generate
from triptych.generate.plan import Limits, can_decode_together, choose_limits, decode_batches, plan_groups
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import DecodeState
from triptych.likelihood.checks import check_vocabulary
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import head_of
from triptych.likelihood.passes import in_halves, prefix_kv
from triptych.likelihood.plan import Branch, batches
from triptych.models import LoadedModel
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt

OnRow = Callable[[Generated], None]
"""Called with each row as it is finished."""

_COMPACT = 0.75  # finished rows leave a batch when at most this share of it is unfinished: removal copies the others
_tried: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def generate_rows(
    loaded: LoadedModel,
    prompts: Sequence[RenderedPrompt],
    settings: GenerationSettings,
    reporter: Reporter,
    on_row: OnRow | None = None,
    *,
    known: Mapping[str, Generated] | None = None,
    limits: Limits | None = None,
) -> list[Generated]:
    """Continue each prompt, with the adapter that is enabled, if any.

    Args:
        loaded: the model.
        prompts: row ids must be unique.
        settings: how tokens are chosen and when a row ends.
        reporter: shows rows done.
        on_row: called with each row as it is finished, in no order to rely on; not with known ones.
        known: rows that are written already, by row id. A batch with any row missing is written whole.
        limits: bounds of what is computed together; None finds them from free memory.

    Returns:
        A `Generated` per prompt, in the order given.

    Raises:
        ModelError: a prompt leaves no room in the context, or holds a token the model doesn't know.
    """
    results = dict(known or {})
    with reporter.task("writing", len(prompts), done=sum(p.row_id in results for p in prompts)) as advance:

        def done(row: Generated) -> None:
            if row.row_id not in results:
                results[row.row_id] = row
                if on_row is not None:
                    on_row(row)
                advance(1)

        bounds, rope = limits or choose_limits(loaded), loaded.rope_limit or math.inf
        # a row that may grow beyond the length where rotary frequencies depend on it is written alone
        long = [len(prompt.ids) + settings.limit(prompt, loaded.max_tokens) > rope for prompt in prompts]
        for alone in (False, True):
            part = [prompt for prompt, is_long in zip(prompts, long, strict=True) if is_long == alone]
            if any(prompt.row_id not in results for prompt in part):
                _Writer(loaded, part, settings, bounds, results, done, alone).write()
    return [results[prompt.row_id] for prompt in prompts]


@dataclass
class _Writer:
    loaded: LoadedModel
    prompts: Sequence[RenderedPrompt]
    settings: GenerationSettings
    limits: Limits
    known: Mapping[str, Generated]
    done: OnRow
    alone: bool

    def __post_init__(self) -> None:
        self.head = head_of(self.loaded.model)
        self.most = [self.settings.limit(prompt, self.loaded.max_tokens) for prompt in self.prompts]
        check_vocabulary(self.loaded, self.prompts)

    @torch.inference_mode()
    def write(self) -> None:
        if self.settings.beams > 1:
            self._write_own(max(1, self.limits.rows // self.settings.beams))
        elif self.alone or not _can_decode_together(self.loaded):  # the probe says why
            self._write_own(1)
        else:
            self._walk(plan_groups(self.prompts), None)

    def _walk(self, branch: Branch, past: PrefixKV | None) -> None:
        """Write a branch's rows, then its children's; its prefix is released on return."""
        if not self._missing(branch):
            return
        if branch.end > branch.start:
            past = prefix_kv(self.loaded, branch.ids[: branch.end], past)
        own = [len(prompt.ids) - branch.end for prompt in self.prompts]
        for members in decode_batches(branch.rows, own, self.most, self.limits):
            if any(self.prompts[row].row_id not in self.known for row in members):
                in_halves(self.loaded, members, partial(self._write_batch, past=past))
        for child in branch.children:
            self._walk(child, past)

    def _missing(self, branch: Branch) -> bool:
        return any(self.prompts[row].row_id not in self.known for row in branch.rows) or any(
            self._missing(child) for child in branch.children
        )

    def _write_batch(self, members: Sequence[int], past: PrefixKV | None) -> None:
        choose = Chooser(self.head, self.settings, [prompt.row_id for prompt in self.prompts])
        batch = DecodeBatch(self.loaded.model, past, len(members))
        hidden = self._prompts_of(members, batch)
        rows = list(members)
        writing = [self._begin(row) for row in rows]
        while True:
            banned = [row.banned() for row in writing] if self.settings.no_repeat_ngram else None
            tokens = choose(hidden, rows, banned)
            for row, token in zip(writing, tokens, strict=True):
                if row.stopped_by is None and row.add(token):
                    self.done(row.done())
            left = [at for at, row in enumerate(writing) if row.stopped_by is None]
            if not left:
                return
            if len(left) <= _COMPACT * len(writing):
                batch.keep(left)
                rows, writing = [rows[at] for at in left], [writing[at] for at in left]
                tokens = [tokens[at] for at in left]
            # a finished row that is carried along writes over one slot, so that it never passes the last position
            advance = [row.stopped_by is None for row in writing]
            hidden = batch.extend([[token] for token in tokens], advance=advance)

    def _prompts_of(self, members: Sequence[int], batch: DecodeBatch) -> Tensor:
        """[B, C] hidden state of each row's last prompt token; the prompts' keys and values are held after."""
        own = [len(self.prompts[row].ids) - batch.n_prefix for row in members]
        hidden = []
        # rows of a batch are sorted as `batches` sorts, so that each of its passes is a stretch of rows
        for part in batches(range(len(members)), own, batch.n_prefix, budget=self.limits.pass_tokens):
            tokens = [self.prompts[members[at]].ids[batch.n_prefix :] for at in part]
            hidden.append(batch.extend(tokens, first=part[0]))
        return torch.cat(hidden)

    def _write_own(self, at_once: int) -> None:
        """Through `model.generate`; rows computed together have one limit and the same stop tokens."""
        order = sorted(
            range(len(self.prompts)),
            key=lambda i: (self.most[i], self.prompts[i].stop_ids, len(self.prompts[i].ids), self.prompts[i].ids),
        )
        for _, alike in groupby(order, key=lambda i: (self.most[i], self.prompts[i].stop_ids)):
            rows = list(alike)
            for at in range(0, len(rows), at_once):
                batch = rows[at : at + at_once]
                prompts = [self.prompts[row] for row in batch]
                if all(prompt.row_id in self.known for prompt in prompts):
                    continue
                written = hf_generate(self.loaded, prompts, self.most[batch[0]], self.settings)
                for row, tokens in zip(batch, written, strict=True):
                    state = self._begin(row)
                    state.take(tokens)
                    self.done(state.done())

    def _begin(self, row: int) -> DecodeState:
        return DecodeState(self.prompts[row], self.most[row], self.settings, self.loaded.profile.tokenizer)


def _can_decode_together(loaded: LoadedModel) -> bool:
    if loaded.model not in _tried:
        _tried[loaded.model] = can_decode_together(loaded)
    return _tried[loaded.model]
