"""What the performance table holds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BenchRow:
    """One comparison."""

    sonde: float
    """In `unit`."""
    plain: float
    """The plain alternative, in `unit`."""
    unit: str
    ratio: float
    """How many times as fast sonde is."""
    memory_mb: dict[str, float] | None = None
    """`sonde` and `plain` → MB at the peak; None where memory is not measured."""
    note: str = ""
    """What else must be known, such as the runtime that was fastest."""
    figures: dict[str, float] | None = None
    """Other figures of the same measurement, by name, such as the error of both sides."""

    def document(self) -> dict[str, object]:
        """The row as JSON, without what it does not have."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


@dataclass(frozen=True)
class BenchTable:
    """The rows that were measured, by name."""

    rows: dict[str, BenchRow]

    def document(self) -> dict[str, object]:
        """The table as JSON: name → row."""
        return {name: row.document() for name, row in self.rows.items()}
