"""What a run leaves behind: frozen records, written atomically, with their provenance. No torch here."""

from triptych.records.schema import (
    SCHEMA_VERSION,
    Aggregate,
    Averaged,
    CellRecord,
    Comparison,
    CurvePoint,
    FewShotSummary,
    ItemScore,
    RunRecord,
    TuneSummary,
    Versions,
)

__all__ = [
    "SCHEMA_VERSION",
    "Aggregate",
    "Averaged",
    "CellRecord",
    "Comparison",
    "CurvePoint",
    "FewShotSummary",
    "ItemScore",
    "RunRecord",
    "TuneSummary",
    "Versions",
]
