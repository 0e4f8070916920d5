"""Models: loaded, quantized, adapted; their tokenizer's profile; a fake one for tests. Imports torch."""

from triptych.models.adapters import (
    Adapter,
    LoraSettings,
    active_adapter_sha256,
    adapter_is_on,
    attach_adapter,
    check_targets,
    detach_adapter,
    load_adapter,
    save_adapter,
    switched,
)
from triptych.models.load import LoadedModel, identify, load_model, load_profile
from triptych.models.tokenizer import TokenizerProfile, load_tokenizer, profile_of

__all__ = [
    "Adapter",
    "LoadedModel",
    "LoraSettings",
    "TokenizerProfile",
    "active_adapter_sha256",
    "adapter_is_on",
    "attach_adapter",
    "check_targets",
    "detach_adapter",
    "identify",
    "load_adapter",
    "load_model",
    "load_profile",
    "load_tokenizer",
    "profile_of",
    "save_adapter",
    "switched",
]
