"""The values that settings may have, where more than one package names them. Imports nothing, so that every one can."""

from __future__ import annotations

from typing import Literal

Quantize = Literal["nf4", "int8", "none"]
DtypeName = Literal["float32", "bfloat16", "float16"]
Dtype = Literal["auto", DtypeName]
Hold = Literal["auto", "dequantized", "packed"]

Draw = Literal["item", "seed"]
"""`item`: demonstrations are drawn anew for each row; `seed`: one set for all of them."""
Select = Literal["random", "same", "bm25", "embedding", "mmr", "longest", "shortest", "similar-length"]
Order = Literal["random", "nearest-last", "nearest-first"]

Preset = Literal["qlora-short", "study"]
Schedule = Literal["cosine", "linear", "constant"]
SelectPoint = Literal["last", "dev", "test"]
LongRows = Literal["drop", "error"]
Recompute = Literal["auto", "on", "off"]

MAX_TOKENS = 2048
"""The protocol's limit for BOS + prompt + output + EOS, unless a setting says otherwise."""
LARGEST_SEED = 2**63 - 1
"""Of any seed: records hold it as a 64-bit integer, and torch takes no larger one."""
MANY = 10**9
"""Of anything that is counted: no data set has more rows, no training more steps."""
