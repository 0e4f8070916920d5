"""Models: loaded, quantized, adapted; their tokenizer's profile. Imports torch."""

from triptych.models.adapter_store import load_adapter, save_adapter
from triptych.models.adapters import (
    Adapter,
    LoraSettings,
    active_adapter_sha256,
    adapter_enabled,
    adapter_is_on,
    attach_adapter,
    check_targets,
    detach_adapter,
)
from triptych.models.header import load_profile
from triptych.models.load import LoadedModel, identify, load_model
from triptych.models.tokenizer import TokenizerProfile, load_tokenizer, profile_of

__all__ = [
    "Adapter",
    "LoadedModel",
    "LoraSettings",
    "TokenizerProfile",
    "active_adapter_sha256",
    "adapter_enabled",
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
]
