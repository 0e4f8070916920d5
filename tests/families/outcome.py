"""What happens to a family: scored, trained, written and reloaded, beside a plain forward and plain peft.

Every family is equal to the plain way, or falls back to it and says so, or is refused in one sentence before any work.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.generate.engine import generate_rows
from triptych.generate.settings import GenerationSettings
from triptych.likelihood.passes import own_forward_nll
from triptych.likelihood.score import Scorer
from triptych.models import LoadedModel, LoraSettings, attach_adapter, load_adapter, load_model, save_adapter
from triptych.models.lora import lora_layers
from triptych.models.quantize import routed_experts
from triptych.progress import Silent
from triptych.prompts import Rendered, RenderedPrompt
from triptych.training.step import accumulate_gradient

__all__ = ["Outcome", "examine", "plain_nll", "probe_rows", "said", "scored_alone"]

_WORDS = ("quick", "brown", "fox", "jumps", "over", "lazy", "dog", "style", "numbers", "model", "answer", "please")


@dataclass
class Outcome:
    """Differences in nats a token, at most over all tokens unless it says otherwise; None: not reached."""

    name: str
    dtype: str
    refused: str | None = None
    """First line of the error that it was refused with, before any work."""
    packed: bool | None = None
    routed: bool = False
    """Whether it has routed experts."""
    said: list[str] = field(default_factory=list)
    score: float | None = None
    """Scores against a plain float32 forward: nats a token of a row, of the row that differs most."""
    worst_token: float | None = None
    score_mean: float | None = None
    own_mean: float | None = None
    """The model's own forward in this dtype against the float32 one, on average."""
    neighbours: float | None = None
    """How far a row moves when only the text of the rows beside it changes."""
    shapes: float | None = None
    """How far a row moves when it is computed alone instead of beside others."""
    order: float | None = None
    """How far a row moves when the rows come in another order."""
    adapted: int = 0
    """Layers with an adapter."""
    loss: float | None = None
    """A training step's loss against plain peft's."""
    gradient: float | None = None
    """Its gradient against plain peft's, relative to its size."""
    own_gradient: float | None = None
    """Plain peft's gradient in this dtype against its float32 one."""
    adapted_mean: float | None = None
    """Scores with the adapter against plain peft's in float32, on average."""
    own_adapted_mean: float | None = None
    """Plain peft in this dtype against plain peft in float32, on average."""
    reloaded: float | None = None
    """The saved adapter in plain peft against the trained one in memory."""
    loaded: float | None = None
    """The saved adapter attached by Triptych against the trained one in memory."""
    written: str | None = None
    """Rows whose greedy tokens are model.generate's, of all."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@contextmanager
def said() -> Iterator[list[str]]:
    """What Triptych's loggers say inside."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("triptych")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def probe_rows(tokenizer: Any, seed: int = 1) -> list[Rendered]:
    """Rows of unlike lengths behind two prefixes, one of which goes on from the other."""
    draw = random.Random(seed)

    def text(n: int) -> str:
        return " ".join(draw.choice(_WORDS) for _ in range(n))

    def ids(of: str) -> list[int]:
        out: list[int] = tokenizer(of, add_special_tokens=False)["input_ids"]
        return out

    preamble = "translate this sentence into another style, please answer in words. USER: "
    longer = preamble + "".join(f"USER: {text(5)} ASSISTANT: {text(4)} " for _ in range(3))
    rows = []
    for i, (asked, answered) in enumerate([(3, 2), (1, 9), (12, 1), (6, 30), (20, 14)]):
        for kind, before in (("short", preamble), ("long", longer)):
            prompt = [tokenizer.bos_token_id, *ids(before + text(asked) + " ASSISTANT: ")]
            output = [*ids(text(answered)), tokenizer.eos_token_id]
            rows.append(Rendered(f"{kind} {i}", tuple(prompt + output), len(prompt), 1))
    return rows


def plain_nll(model: Any, row: Rendered) -> Tensor:
    """[n_scored] by one whole forward of a transformers or peft model."""
    logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, row.n_prompt - 1 : -1]
    targets = torch.tensor(row.ids[row.n_prompt :])
    out: Tensor = -logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return out


def furthest(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference of any token."""
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


def mean(ours: Sequence[Tensor], theirs: Sequence[Tensor], *, routed: bool = False) -> float:
    """The average difference over all tokens; with routed experts, without the twentieth that differs most.

    Where two experts are nearly as good, any rounding can turn the router's choice, and that token jumps.
    """
    apart = torch.cat([(a - b).abs() for a, b in zip(ours, theirs, strict=True)]).sort().values
    return float(apart[: len(apart) - len(apart) // 20 * routed].mean())


def examine(name: str, folder: Path, dtype: str, work: Path) -> Outcome:
    """All of it, for the model in `folder`; adapters are saved under `work`."""
    from transformers import AutoModelForCausalLM

    outcome = Outcome(name, dtype)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with said() as outcome.said:
        try:
            loaded = load_model(ModelConfig(name=str(folder), quantize="none", dtype=dtype, threads=1, device="cpu"))
            limit = loaded.max_tokens or 1 << 30
            rows = [row for row in probe_rows(loaded.profile.tokenizer) if len(row.ids) <= limit]
            scorer = Scorer(loaded)
        except ModelError as error:
            outcome.refused = str(error).splitlines()[0]
            return outcome
        with torch.no_grad():
            reference = [plain_nll(plain, row) for row in rows]
        _score(outcome, loaded, scorer, rows, reference)
        _write(outcome, loaded, plain, rows)
        _train(outcome, loaded, scorer, rows, folder, work)
    return outcome


def scored_alone(folder: Path, dtype: str) -> float:
    """How far a model's rows move when they are computed alone instead of beside others."""
    loaded = load_model(ModelConfig(name=str(folder), quantize="none", dtype=dtype, threads=1, device="cpu"))
    scorer, rows = Scorer(loaded), probe_rows(loaded.profile.tokenizer)
    return furthest([_tokens(scorer, [row])[0] for row in rows], _tokens(scorer, rows))


def _tokens(scorer: Scorer, rows: Sequence[Rendered]) -> list[Tensor]:
    return [torch.from_numpy(row.tokens) for row in scorer.score(rows)]


def _score(
    outcome: Outcome, loaded: LoadedModel, scorer: Scorer, rows: list[Rendered], reference: list[Tensor]
) -> None:
    outcome.packed = scorer.packed
    ours = _tokens(scorer, rows)
    outcome.routed = routed = bool(routed_experts(loaded.model))
    outcome.score = max(mean([a], [b]) for a, b in zip(ours, reference, strict=True))
    outcome.worst_token, outcome.score_mean = furthest(ours, reference), mean(ours, reference, routed=routed)
    with torch.no_grad():
        outcome.own_mean = mean([own_forward_nll(loaded, row) for row in rows], reference, routed=routed)
    kept = range(0, len(rows), 3)
    others = [row if i in kept else _other_text(row) for i, row in enumerate(rows)]
    changed = _tokens(scorer, others)
    outcome.neighbours = furthest([changed[i] for i in kept], [ours[i] for i in kept])
    outcome.shapes = furthest([_tokens(scorer, [row])[0] for row in rows], ours)
    shuffled = random.Random(3).sample(range(len(rows)), len(rows))
    outcome.order = furthest(_tokens(scorer, [rows[i] for i in shuffled]), [ours[i] for i in shuffled])


def _other_text(row: Rendered) -> Rendered:
    """The same shape and the same shared prefix, another text."""
    ids = tuple((token * 7 + 3) % 300 if i > row.n_prompt - 3 else token for i, token in enumerate(row.ids))
    return Rendered(row.row_id, ids, row.n_prompt, 1)


def _write(outcome: Outcome, loaded: LoadedModel, plain: Any, rows: list[Rendered]) -> None:
    tokenizer, n_new = loaded.profile.tokenizer, 10
    rows = [row for row in rows if row.n_prompt + n_new <= (loaded.max_tokens or 1 << 30)][:4]
    eos = tokenizer.eos_token_id
    prompts = [RenderedPrompt(row.row_id, row.ids[: row.n_prompt], stop_ids=(eos,)) for row in rows]
    ours = generate_rows(loaded, prompts, GenerationSettings(max_new_tokens=n_new), Silent())
    equal = 0
    for prompt, row in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt.ids])
        theirs = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_new,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=tokenizer.pad_token_id,
        )[0, len(prompt.ids) :].tolist()
        equal += [t for t in row.ids if t != eos] == [t for t in theirs if t != eos]
    outcome.written = f"{equal}/{len(rows)}"


def _train(
    outcome: Outcome, loaded: LoadedModel, scorer: Scorer, rows: list[Rendered], folder: Path, work: Path
) -> None:
    try:
        adapter = attach_adapter(loaded, LoraSettings(r=4, alpha=8.0), seed=0)
    except ModelError as error:
        outcome.said.append(f"not trained: {str(error).splitlines()[0]}")
        return
    outcome.adapted = len(lora_layers(adapter.model))
    generator = torch.Generator().manual_seed(5)
    for key, parameter in adapter.parameters().items():
        if "lora_B" in key:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    step = accumulate_gradient(loaded, scorer.head, rows, max_rows=8, max_tokens=2048, packed=scorer.packed)
    gradients = {key: p.grad for key, p in adapter.parameters().items()}
    for parameter in adapter.parameters().values():
        parameter.grad = None
    trained = _tokens(scorer, rows)
    save_adapter(adapter, work, facts={})

    theirs, expected = _plain_peft(folder, work, torch.float32, rows)
    n_scored = sum(row.n_scored for row in rows)
    outcome.loss = abs(sum(float(nll.sum()) for nll in theirs) - step.nll_nats) / n_scored
    outcome.gradient, outcome.own_gradient = _distance(gradients, expected), 0.0
    outcome.reloaded = furthest(trained, theirs)
    outcome.adapted_mean, outcome.own_adapted_mean = mean(trained, theirs, routed=outcome.routed), 0.0
    if loaded.dtype != torch.float32:
        own, own_gradients = _plain_peft(folder, work, loaded.dtype, rows)
        outcome.own_gradient = _distance(own_gradients, expected)
        outcome.own_adapted_mean = mean(own, theirs, routed=outcome.routed)

    again = load_model(ModelConfig(name=str(folder), quantize="none", dtype=outcome.dtype, threads=1, device="cpu"))
    load_adapter(again, work)
    outcome.loaded = furthest(_tokens(Scorer(again, packed=scorer.packed), rows), trained)


def _plain_peft(
    folder: Path, adapter: Path, dtype: torch.dtype, rows: Sequence[Rendered]
) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """NLL of each row and the gradient of their mean, by peft and transformers alone, a row at a time."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    plain = PeftModel.from_pretrained(base, str(adapter), is_trainable=True).eval()
    n_scored, nlls = sum(row.n_scored for row in rows), []
    for row in rows:
        nll = plain_nll(plain, row)
        (nll.sum() / n_scored).backward()
        nlls.append(nll.detach())
    return nlls, {key: p.grad for key, p in plain.named_parameters() if p.requires_grad}


def _distance(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> float:
    """Between two gradients, relative to the second's size; one that is not there is zero."""
    assert ours.keys() == theirs.keys()
    apart = size = 0.0
    for key, gradient in ours.items():
        other = theirs[key]
        some = gradient if gradient is not None else other
        if some is None:
            continue
        a, b = (torch.zeros_like(some) if g is None else g for g in (gradient, other))
        apart += float((a - b).pow(2).sum())
        size += float(b.pow(2).sum())
    return (apart / size) ** 0.5 if size else 0.0
