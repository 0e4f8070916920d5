"""What the errors of transformers, safetensors, huggingface_hub and torch mean to the user who loads a model.

Each entry of the catalogue recognizes an error by the names and messages of the exception and of its causes, and gives
what is wrong and how to fix it. The first entry that fits is taken; without one the caller's own words are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from triptych.errors import ModelError

NO_CODE = {"trust_remote_code": False}
"""For every `from_pretrained`. Left out, transformers asks on a terminal whether to run a stranger's code."""


LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError, ImportError, MemoryError),
    *(SafetensorError, StrictDataclassError),
)
"""What the libraries raise for a model's files that they can't read or don't know."""


class _Entry(NamedTuple):
    pattern: str
    means: str
    fix: str


_CATALOGUE = (
    _Entry(
        r"trust_remote_code|custom code (which|contained)|contains custom code",
        "it brings Python code of its own, which Triptych does not run",
        "take a model of an architecture that transformers has itself; `trust_remote_code` is off and stays off",
    ),
    _Entry(
        r"GatedRepoError|gated repo",
        "it is gated: its owners want to be asked first",
        "accept its terms on its page of the hub, then `hf auth login`",
    ),
    _Entry(r"RevisionNotFoundError", "the hub has the model, and no such revision", "check `revision`"),
    _Entry(
        r"RepositoryNotFoundError|not a valid model identifier|Repo id must",
        "the hub has no model of that name, or it is private",
        "check the name (owner/name); for a private one `hf auth login`; a folder is given by its path",
    ),
    _Entry(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|ConnectionError|ConnectError|couldn't connect to",
        "the hub can't be reached",
        "go online once (config.json and the tokenizer files are kept then; weights are not needed to plan), or give a "
        "folder that holds the files",
    ),
    _Entry(
        r"for this kind of AutoModel: AutoModelForCausalLM",
        "it is no causal language model",
        "give a model that predicts the next token (decoder only)",
    ),
    _Entry(
        r"does not recognize this architecture|Unrecognized model in|Should have a `model_type` key",
        "this version of transformers doesn't know its architecture",
        "pip install --upgrade transformers, if config.json is right",
    ),
    _Entry(
        r"OutOfMemoryError|MemoryError|out of memory|can't allocate memory|DefaultCPUAllocator",
        "there is not enough memory for its weights",
        "quantize to nf4 and hold it packed (model.hold: packed); `triptych plan` says what each way takes",
    ),
    _Entry(
        r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer",
        "a weights file is cut short, or is no safetensors file",
        "copy or download it again; one of about 130 bytes is a Git LFS pointer: `git lfs pull`",
    ),
    _Entry(
        r"size mismatch|ignore_mismatched_sizes",
        "its weights have other shapes than its config.json says",
        "config.json and *.safetensors must be of the same model",
    ),
    _Entry(
        r"(?i)requires? the sentencepiece|`?sentencepiece`? (is|was) not|install sentencepiece",
        "its tokenizer needs a library that isn't installed",
        "pip install sentencepiece protobuf",
    ),
    _Entry(
        r"(?i)requires? (the )?`?tiktoken|`?tiktoken`? (is|was) not|install `?tiktoken",
        "its tokenizer needs a library that isn't installed",
        "pip install tiktoken",
    ),
    _Entry(
        r"(?i)quantized model requires|requires (the )?`?(optimum|gptqmodel|autoawq|auto-gptq|compressed.tensors)",
        "its files are quantized by a library that isn't installed",
        "install the library that `found` names, or give the model before it was quantized",
    ),
    _Entry(
        r"(?i)already quantized|quantized with \w+ but you are passing",
        "its files are quantized already",
        "give `quantize: none`, or the model before it was quantized",
    ),
    _Entry(
        r"(?i)bitsandbytes",
        "bitsandbytes can't quantize it here",
        "`triptych doctor` tries bitsandbytes; `quantize: none` does without it",
    ),
    _Entry(
        r"no file named model\.safetensors|does not appear to have a file named .*safetensors",
        "there are no weights in safetensors",
        "all *.safetensors files belong into the folder; pickled weights need --allow-pickle (model.allow_pickle)",
    ),
    _Entry(
        r"(?m)^(KeyError: |AttributeError: |TypeError: )|StrictDataclass",
        "its configuration holds a name or a value that this version of transformers doesn't know",
        "check what is named in config.json and tokenizer_config.json; for a newer model, "
        "pip install --upgrade transformers",
    ),
    _Entry(r"No space left on device", "the disk is full", "make room, or let HF_HOME name a folder on another disk"),
)


def explained(error: BaseException, what: str, *, where: str, expected: str, fix: str) -> ModelError:
    """A `ModelError` for an error of a library; raise it `from error`.

    Args:
        error: as it was caught.
        what: what didn't work, as a sentence that the reason can follow after a colon.
        where: the model.
        expected: what would have been right.
        fix: what to do about errors that the catalogue doesn't list.
    """
    found = reason_of(error)
    text = "\n".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    entry = next((entry for entry in _CATALOGUE if re.search(entry.pattern, text)), None)
    if entry is None:
        return ModelError(what, where=where, found=found, expected=expected, fix=fix)
    return ModelError(f"{what}: {entry.means}", where=where, found=found, expected=expected, fix=entry.fix)


_SAYS_WHY = re.compile(
    r"(?i)\b(error|requires?|needs?|need to|not|no|cannot|can't|couldn't|mismatch|missing|unexpected|invalid|unknown|"
    r"expected|failed|because|but|must|too|corrupt\w*|denied)\b|n't\b"
)
_LONGEST_REASON = 400


def reason_of(error: BaseException, *, named: bool = False) -> str:
    """The line of a library's message that gives the reason: seldom the last, and not always the first.

    The line below a heading (`Error(s) in loading state_dict for X:`) is added to it, and to a sentence without a
    reason the first line that has one. Where the error was raised from another one, that one's reason stands last.

    Args:
        error: as it was caught.
        named: whether the error's type always stands first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, StrictDataclassError) and lines:
        return lines[-1]
    if not lines:
        said = type(error).__name__
    else:
        first, rest = lines[0], lines[1:]
        heading = first.endswith(":")
        why = next((line for line in rest if heading or _SAYS_WHY.search(line)), None)
        said = f"{first} {why}" if why and (heading or not _SAYS_WHY.search(first)) else first
    if named or isinstance(
        error, KeyError | AttributeError | TypeError
    ):  # their texts alone name a thing and no reason
        said = said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
    if error.__cause__ is not None and (cause := reason_of(error.__cause__)) not in said:
        kind = type(error.__cause__).__name__
        said = f"{said} ({cause})" if cause.startswith(kind) else f"{said} ({kind}: {cause})"
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
