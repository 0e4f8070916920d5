"""Tensors in a file: back bit by bit, mapped and not copied, aligned as torch aligns them; torn files are seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from triptych.models.tensor_file import ALIGNMENT, bytes_of, map_tensors, why_not_writable, write_tensors

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    made = {str(dtype): (torch.arange(-7, 8).reshape(3, 5) % 3).to(dtype) for dtype in DTYPES}
    odd = torch.tensor([float("nan"), -0.0, float("inf")])
    return {"odd.weight": odd, **made, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 4), "last": torch.ones(33)}


def bits(tensor: torch.Tensor) -> list[int]:
    return list(tensor.reshape(-1).view(torch.uint8).tolist())


def test_all_come_back_bit_by_bit(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    assert why_not_writable(tensors) is None
    assert write_tensors(path, tensors) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size <= bytes_of(tensors) + 100 * len(tensors) + 4096
    back = map_tensors(path)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape, back[name].stride()) == (
            tensor.dtype,
            tensor.shape,
            tensor.stride(),
        )
        assert bits(back[name]) == bits(tensor)
        assert back[name].data_ptr() % ALIGNMENT == 0
    with safe_open(path, "pt") as file:  # for others too, it is what it is called
        assert torch.equal(file.get_tensor("last"), tensors["last"])


def test_tensors_are_the_file_s_and_writing_to_one_changes_neither_file_nor_others(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": torch.ones(5000), "b": torch.ones(5000)})
    content = path.read_bytes()
    first, second = map_tensors(path), map_tensors(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert first["a"].untyped_storage().nbytes() == 4 * 5000  # a copy of one takes no other with it
    first["a"].add_(1)
    assert (first["a"][0], first["b"][0], second["a"][0]) == (2, 1, 1)
    path.unlink()  # while it is mapped
    assert second["b"].sum() == 5000
    assert path.exists() is False and len(content) > 40000


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "header cut", "no header", "list", "other dtype"])
def test_a_torn_file_is_seen(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": torch.ones(100)})
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:-1],
            "longer": content + b"x",
            "header cut": content[:20],
            "no header": b"\0" * 100,
            "list": (2).to_bytes(8, "little") + b"[]",
            "other dtype": content.replace(b"F32", b"F99"),
        }[damage]
    )
    with pytest.raises(ValueError):
        map_tensors(path)


def test_what_would_not_come_back_is_said() -> None:
    assert "contiguous" in str(why_not_writable({"a": torch.ones(2, 3).T}))
    assert "complex64" in str(why_not_writable({"a": torch.ones(2, dtype=torch.complex64)}))
    assert "meta" in str(why_not_writable({"a": torch.ones(2, device="meta")}))
