"""Whether all numbers of a run were computed with the same versions, and if not, which with which."""

from __future__ import annotations

from collections.abc import Iterator

from triptych.records import RunRecord, Versions

_NAMED = 3


def mixed_versions(record: RunRecord) -> list[str]:
    """One warning that names every library that differs; none where all is of the same versions, or none is known."""
    known = [(name, versions.named()) for name, versions in _versions(record) if versions is not None]
    libraries = dict.fromkeys(library for _, versions in known for library in versions)
    parts = []
    for library in libraries:
        by_version: dict[str, list[str]] = {}
        for name, versions in known:
            by_version.setdefault(versions.get(library, "not installed"), []).append(name)
        if len(by_version) > 1 or any(", " in version for version in by_version):
            parts += [f"{library} {version} ({_listed(names)})" for version, names in by_version.items()]
    if not parts:
        return []
    return [f"Not all numbers here were computed with the same versions: {'; '.join(parts)}."]


def _versions(record: RunRecord) -> Iterator[tuple[str, Versions | None]]:
    yield from ((cell.cell, cell.versions) for cell in record.cells)
    trainings = record.trainings or ((record.tune,) if record.tune else ())
    yield from ((f"training {training.name or training.prompt}", training.versions) for training in trainings)
    yield from ((f"texts of {one.cell}", one.versions) for one in record.generations)
    if record.search:
        yield "search", record.search.versions


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
