"""How much memory a training takes, from the model's sizes alone: before anything is loaded, and to decide what to do.

Counted is what autograd holds of a pass until its backward, as this package computes it: no padding outside attention,
the head at scored positions only, no gradient for frozen weights. With e bytes a number, C hidden size, I width of the
feed-forward, H query and K key heads of size D, per block:

    each token              norms             4 C each: what is squared, in float32
                            inputs            e (in) for every different input of an adapted layer, for A's gradient
                            x A               e r for every adapted layer
                            feed-forward      3 e I: gate, activation, up
    each place [rows x longest]
      fused attention       query, output     2 e H D
                            keys, values      2 e K D, prefix included
      in blocks (a CPU in   queries           8 H D: float32, as met by the shared prefix and by the row's own keys
      16 bits)              keys, values      4 K D and e K D
                            softmax           (4 + e) H for every key: float32, and rounded

On a GPU in 16 bits nothing is padded and norms are one kernel, which keeps what it is given:

    each token              norms             e C each
                            query, output     e H D each; the output is the next layer's input, and counted there
    each key                keys, values      2 e K D, the prefix before every row

Gemma's norms are not that kernel and keep more than is counted there.

That count is exact for Gemma 3 and Llama blocks (checked with saved-tensor hooks). To it come short-lived tensors, and
what the allocator keeps of them; on a CPU that is several blocks' worth, measured. For feed-forwards without a gate,
mixtures of experts and DoRA it is near, not exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from triptych.config.tune import TuneConfig
from triptych.likelihood.attention import attention_path
from triptych.likelihood.head import head_chunk
from triptych.likelihood.passes import common_prefix
from triptych.models import LoraSettings
from triptych.models.shape import ModelShape
from triptych.prompts import Rendered
from triptych.training.parallel import World, share_of
from triptych.training.step import passes_of, rows_of_step

Held = Literal["plain", "dequantized", "packed", "int8"]
"""How the base's weights are stored: as loaded, dequantized from NF4 once, packed in 4 bits, or in int8."""

_ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
_PASSING = {("cpu", "blocks"): 4.25, ("cpu", "fused"): 8.0, ("cuda", "fused"): 2.0, ("cuda", "varlen"): 1.0}
"""Short-lived tensors at the peak, in units of what a block keeps, by how attention is computed. The first two are
measured (glibc 2.36, whose heap hardly reuses aligned pieces), as is the last (an H200, docs/results/gpu.md); the third
is reasoned: a block and its gradients."""
# names of layers that read one and the same tensor
_ONE_INPUT = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "query", "key", "value"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj", "w1", "w3"), "feed-forward"),
}


@dataclass(frozen=True, slots=True)
class PassSize:
    """One forward pass of training."""

    tokens: int
    """Computed: a beginning that rows share counts once, and the last token of each not at all."""
    scored: int
    rows: int = 1
    longest: int | None = None
    """Longest row without the shared beginning; None: all rows are alike."""
    prefix: int = 0
    """Tokens of the shared beginning."""

    @classmethod
    def of(cls, rows: Sequence[Rendered], *, share_prefix: bool) -> PassSize:
        """The pass over these rows."""
        prefix = common_prefix(rows) if share_prefix and len(rows) > 1 else 0
        own = [len(row.ids) - 1 - prefix for row in rows]
        return cls(prefix + sum(own), sum(row.n_scored for row in rows), len(rows), max(own), prefix)

    @property
    def places(self) -> int:
        """Rows times the longest: what attention lays side by side."""
        return self.rows * (self.longest if self.longest is not None else -(-self.tokens // self.rows))


@dataclass(frozen=True, slots=True)
class TrainingBytes:
    """Bytes at the peak of an optimizer step, by what they are for."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    head: int

    @property
    def step(self) -> int:
        """What training adds to a loaded model with its adapter on."""
        return self.gradients + self.optimizer + self.activations + self.head

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.adapter + self.step


def training_bytes(
    shape: ModelShape,
    size: PassSize,
    *,
    r: int,
    target_modules: tuple[str, ...] | None = None,
    dtype: str = "bfloat16",
    held: Held = "dequantized",
    recompute: bool = False,
    dropout: bool = False,
    use_dora: bool = False,
    device: str = "cpu",
) -> TrainingBytes:
    """Estimate the peak memory of training; within a fifth of what was measured.

    Args:
        shape: the model's sizes.
        size: the largest pass (`largest_pass`).
        r: rank of the adapter.
        target_modules: last parts of the adapted layers' names; None: all linear ones but the output head.
        dtype: compute dtype: float32, bfloat16 or float16.
        held: how the base's weights are stored.
        recompute: with activation checkpointing.
        dropout: whether the adapter has dropout, which gives each adapted layer an input of its own.
        use_dora: whether it is DoRA, which peft computes in float32.
        device: `cpu` or `cuda`.
    """
    item = _ITEM[dtype]
    names = tuple(shape.targets) if target_modules is None else target_modules
    trained = shape.lora_parameters(r, names)
    if use_dora:
        trained += sum(n_out for name in names for _, n_out in shape.targets.get(name, []))
    way = attention_path(device, item)
    block = _block_bytes(shape, size, r, names, item, dropout, use_dora, way)
    kept = shape.n_layers * (item * shape.hidden_size * size.tokens if recompute else block) + item * trained
    passing = block * (_PASSING[device, way] + (recompute and way == "varlen"))  # the block that is computed again
    if held in ("packed", "int8"):  # a layer's weights are dequantized while it is computed
        passing += item * max((n_in * n_out for sizes in shape.targets.values() for n_in, n_out in sizes), default=0)
    return TrainingBytes(
        weights=weight_bytes(shape, dtype, held),
        adapter=4 * trained,
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=round(kept + passing),
        head=_head_bytes(shape, size.scored, item, device),
    )


def bytes_of_training(
    shape: ModelShape,
    size: PassSize,
    config: TuneConfig,
    *,
    dtype: str,
    held: Held,
    device: str,
    recompute: bool = False,
    targets: tuple[str, ...] | None = None,
) -> TrainingBytes:
    """`training_bytes` with these settings; `targets`: the layers that an adapter has, where it is loaded."""
    lora = LoraSettings.of(config)
    return training_bytes(
        shape,
        size,
        r=lora.r,
        target_modules=lora.target_modules if targets is None else targets,
        dtype=dtype,
        held=held,
        recompute=recompute,
        dropout=config.dropout > 0,
        use_dora=config.use_dora,
        device=device,
    )


def weight_bytes(shape: ModelShape, dtype: str, held: Held, *, double_quant: bool = True) -> int:
    """Bytes of the base model's weights."""
    item = _ITEM[dtype]
    # a scale for each 64 weights: one byte and a float32 for each 256 of them, or a float32
    packed = 0.5 + ((1 + 4 / 256) / 64 if double_quant else 4 / 64)
    each = {"plain": item, "dequantized": item, "packed": packed, "int8": 1.0}[held]
    return round(shape.linear_parameters * each) + (shape.embedding_parameters + shape.other_parameters) * item


def largest_pass(rows: Sequence[Rendered], config: TuneConfig, *, ranks: int = 1, padded: bool = True) -> PassSize:
    """The pass of the first epoch that takes most memory, as training will plan it.

    `ranks`: processes that share a step. `padded`: whether attention pads rows, as it does except on GPUs in 16 bits.
    """
    per_epoch = -(-len(rows) // config.rows_per_step)
    largest = PassSize(1, 1)
    for step in range(min(per_epoch, config.total_steps(len(rows)))):
        chosen = [rows[i] for i in rows_of_step(step, len(rows), config.rows_per_step, config.seed)]
        share = share_of(chosen, World(0, ranks)) if ranks > 1 else chosen
        for batch in passes_of(share, max_rows=config.batch_size, max_tokens=config.tokens_per_pass):
            size = PassSize.of(batch, share_prefix=config.dropout == 0)
            if size.tokens + size.places * padded > largest.tokens + largest.places * padded:
                largest = size
    return largest


def _block_bytes(
    shape: ModelShape, size: PassSize, r: int, names: Sequence[str], item: int, dropout: bool, use_dora: bool, way: str
) -> int:
    """What autograd keeps of one block, on average over the blocks."""
    heads, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    adapted = [pair for name in names for pair in shape.targets.get(name, [])]
    inputs: dict[str, int] = {}
    for name in names:
        width = sum(n_in for n_in, _ in shape.targets.get(name, []))
        group = name if dropout else _ONE_INPUT.get(name, name)
        inputs[group] = max(inputs.get(group, 0), width)
    # with dropout each layer has its own input, and a byte that says what was dropped
    input_bytes = sum(inputs.values()) * (item + dropout)
    per_token = (item if way == "varlen" else 4) * _normed(shape) + 3 * item * shape.intermediate_size
    per_token += input_bytes // shape.n_layers + item * r * len(adapted) // shape.n_layers
    if use_dora:  # x, the base's output and the adapter's, in float32
        per_token += sum(4 * (n_in + 2 * n_out) for n_in, n_out in adapted) // shape.n_layers
    seen = size.prefix + size.places // size.rows
    if way == "varlen":
        per_token += item * heads * (1 if "o_proj" in names else 2)
        laid = size.tokens + size.rows * size.prefix
        return per_token * size.tokens + 2 * item * keys * laid
    if way == "blocks":
        per_place = 8 * heads + 4 * keys + (4 + item) * shape.n_heads * seen
        beside = item * keys * seen * size.rows
    else:
        per_place = 2 * item * heads
        beside = 2 * item * keys * seen * size.rows
    return per_token * size.tokens + per_place * size.places + beside


def _normed(shape: ModelShape) -> int:
    """Numbers that a block's norms see of a token, read off the number of their weights."""
    weights = shape.other_parameters // shape.n_layers
    norms = max(2, min(weights // shape.hidden_size, 4))
    # what is left over are norms of query and key (Gemma 3, Qwen 3): weights for one head, used for all
    of_heads = weights - norms * shape.hidden_size >= 2 * shape.head_dim
    return norms * shape.hidden_size + (shape.n_heads + shape.n_kv_heads) * shape.head_dim * of_heads


def _head_bytes(shape: ModelShape, scored: int, item: int, device: str) -> int:
    """The hidden states at scored positions, their float32 gradient, and one chunk of logits."""
    most_rows, most_columns = head_chunk(device)
    rows, columns = min(scored, most_rows), min(shape.vocab_size, most_columns)
    return shape.hidden_size * scored * (2 * item + 8) + rows * columns * (2 * item + 4) + rows * shape.hidden_size * 8
