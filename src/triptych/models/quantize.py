"""NF4 (Dettmers et al. 2023, QLoRA, section 3) through bitsandbytes, stored in one of two ways.

    packed         4-bit codes in memory, dequantized at every use (bitsandbytes' own layers)
    dequantized    quantized and dequantized once; the weights are the *values* that NF4 dequantizes to

Both compute the same function of the same numbers. `dequantized` costs 2 bytes a parameter in bfloat16 instead of about
half a byte, and saves the dequantization at each use: on a CPU that is most of the time, on a GPU 10-30 % for
short batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from triptych.config.choices import Quantize

BLOCK_SIZE = 64
"""Weights per absmax, the paper's and bitsandbytes' default."""


def linear_layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The layers that are quantized and adapted: every linear one except the output head (as transformers does).

    Routers that return which experts they chose are left out, as are routed experts: one tensor of three dimensions.
    """
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if is_linear(module) and module is not head:
            yield name, module


def is_linear(module: Any) -> bool:
    """Whether a module computes W x + b and nothing else, quantized or not."""
    kind: Any = type(module)
    return _computes_linear(kind) or is_quantized_linear(module)


@cache
def _computes_linear(kind: type) -> bool:
    """Tried on weights of 4 x 3: some subclasses of `nn.Linear` compute more (routers), some don't (Falcon's)."""
    from transformers.pytorch_utils import Conv1D

    if kind in (nn.Linear, Conv1D) or not issubclass(kind, nn.Linear):
        return kind in (nn.Linear, Conv1D)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        plain, x = nn.Linear(4, 3), torch.randn(2, 4)
        try:
            return bool(torch.allclose(kind.forward(plain, x), plain(x)))
        except Exception:  # it needs more than a linear layer has
            return False


def is_quantized_linear(module: Any) -> bool:
    """Whether this is a linear layer of bitsandbytes, 4-bit or 8-bit."""
    return isinstance(module, nn.Linear) and type(module).__module__.partition(".")[0] == "bitsandbytes"


def routed_experts(model: Any) -> list[str]:
    """Names of the parameters that hold routed experts, all of a layer's in one tensor."""
    return [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]


def stored_quantization(config: Any) -> str | None:
    """How a model's own files are quantized, by its configuration: `bitsandbytes nf4`, say; None if they aren't."""
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return None
    facts = stored if isinstance(stored, dict) else stored.to_dict()
    method = str(getattr(facts.get("quant_method"), "value", facts.get("quant_method", "unknown method")))
    if facts.get("load_in_8bit"):
        kind = "int8"
    elif facts.get("load_in_4bit"):
        kind = str(facts.get("bnb_4bit_quant_type", "4-bit"))
    else:
        bits = facts.get("bits") or facts.get("w_bit")
        kind = f"{bits}-bit" if bits else ""
    return f"{'bitsandbytes' if 'bitsandbytes' in method else method} {kind}".strip()


def computes_in_int8(model: Any) -> bool:
    """Whether products are LLM.int8()'s (Dettmers et al. 2022): which columns keep 16 bits depends on all rows."""
    return any(type(module).__name__ == "Linear8bitLt" and is_quantized_linear(module) for module in model.modules())


@torch.no_grad()
def dequantized_once(model: Any, *, double_quant: bool = True) -> None:
    """Replace each linear weight by the values its NF4 form dequantizes to, in the weight's own dtype.

    Bit-equal to what a `bitsandbytes.nn.Linear4bit` layer made from the same weight multiplies by (tested).
    """
    import bitsandbytes.functional as bnb
    from transformers.pytorch_utils import Conv1D

    for _, layer in linear_layers(model):
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        # Conv1D (GPT-2) stores (in, out); transformers transposes it before quantizing, and the blocks run along rows
        oriented = weight.data.T.contiguous() if isinstance(layer, Conv1D) else weight.data.contiguous()
        packed, state = bnb.quantize_4bit(
            oriented, blocksize=BLOCK_SIZE, compress_statistics=double_quant, quant_type="nf4"
        )
        values = bnb.dequantize_4bit(packed, state).to(weight.dtype)
        weight.data.copy_(values.T if isinstance(layer, Conv1D) else values)


def keep_differentiable(model: Any) -> None:
    """Keep bitsandbytes' 4-bit layers from repacking their weights for its AVX512-BF16 product.

    That product is inference only: it has no backward, so a layer that was once called without a gradient (by the
    scorer) would let no gradient through from then on, and it rounds to bfloat16 in a model of any dtype.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantization_config(quantize: Quantize, *, dtype: torch.dtype, double_quant: bool) -> Any:
    """The transformers configuration that loads a model in packed form."""
    from transformers import BitsAndBytesConfig

    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def loading_warnings(model: Any, unused: Sequence[str], quantize: Quantize, stored: str | None) -> list[str]:
    """Warnings about a loaded model.

    Args:
        model: as transformers loaded it.
        unused: keys of its files that the model has no place for.
        quantize: the setting.
        stored: how the folder's own weights are quantized, if they are (`stored_quantization`).
    """
    warnings = []
    if unused:
        warnings.append(
            f"{len(unused)} tensors of the model's files are not used by {type(model).__name__}: {first_names(unused)}"
        )
    if stored is not None:
        warnings.append(
            f"the model's files are quantized already ({stored}): they are used so, not as `quantize: {quantize}`"
        )
    elif quantize != "none" and (experts := routed_experts(model)):
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        share = f"{sum(sizes[name] for name in experts) / sum(sizes.values()):.0%}"
        warnings.append(
            f"routed experts are not quantized, {share} of the weights stay as they are: {first_names(experts)}"
        )
    return warnings


def first_names(names: Sequence[str]) -> str:
    """The first two names of a list, for a warning."""
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
