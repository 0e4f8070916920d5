"""What the errors of transformers, safetensors, huggingface_hub and torch mean to the user who loads a model.

Each entry of the catalogue recognizes an error by the names and messages of the exception and of its causes, and gives
what is wrong and how to fix it. The first entry that fits is taken; without one the caller's own text is used.
"""

from __future__ import annotations

import re
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
    *(
        _Entry(
            rf"(?i)requires? (the )?`?{library}|`?{library}`? (is|was) not|install `?{library}",
            "its tokenizer needs a library that isn't installed",
            f"pip install {packages}",
        )
        for library, packages in (("sentencepiece", "sentencepiece protobuf"), ("tiktoken", "tiktoken"))
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

    A reason follows `what` after a colon. `fix` is for errors that the catalogue doesn't list.
    """
    found = reason_of(error)
    text, seen = "", set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:  # the error and what led to it
        seen.add(id(one))
        text += f"{type(one).__name__}: {one}\n"
        one = one.__cause__ or one.__context__
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
    With `named` the error's type always stands first.
    """
    kind, lines = type(error).__name__, [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, StrictDataclassError) and lines:
        return lines[-1]
    reason, *rest = lines or [kind]
    heading = reason.endswith(":")
    why = next((line for line in rest if heading or _SAYS_WHY.search(line)), None)
    if why and (heading or not _SAYS_WHY.search(reason)):
        reason = f"{reason} {why}"
    # the texts of these types alone name a thing and no reason
    if reason != kind and (named or isinstance(error, KeyError | AttributeError | TypeError)):
        reason = f"{kind}: {reason}"
    if error.__cause__ is not None and (cause := reason_of(error.__cause__)) not in reason:
        of_cause = type(error.__cause__).__name__
        reason = f"{reason} ({cause})" if cause.startswith(of_cause) else f"{reason} ({of_cause}: {cause})"
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
