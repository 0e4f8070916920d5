"""Whether all numbers of a run were computed with the same library versions, and if not, which with which."""

from __future__ import annotations

from collections.abc import Iterator

from triptych.records import RunRecord, Versions
from triptych.report.tables.trainings import trainings_of

_NAMED = 3


def mixed_versions(record: RunRecord) -> list[str]:
    """One warning that names every library that differs; none where all is of the same versions, or none is known."""
    recorded = [(name, versions.named()) for name, versions in _versions(record) if versions is not None]
    parts = []
    for library in dict.fromkeys(library for _, versions in recorded for library in versions):
        by_version: dict[str, list[str]] = {}
        for name, versions in recorded:
            by_version.setdefault(versions.get(library, "not installed"), []).append(name)
        if len(by_version) > 1 or any(", " in version for version in by_version):
            parts += [f"{library} {version} ({_listed(names)})" for version, names in by_version.items()]
    return [f"Not all numbers here were computed with the same versions: {'; '.join(parts)}."] if parts else []


def _versions(record: RunRecord) -> Iterator[tuple[str, Versions | None]]:
    yield from ((cell.cell, cell.versions) for cell in record.cells)
    yield from (
        (f"training {training.name or training.prompt}", training.versions) for training in trainings_of(record)
    )
    yield from ((f"texts of {one.cell}", one.versions) for one in record.generations)
    if record.search:
        yield "search", record.search.versions


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
