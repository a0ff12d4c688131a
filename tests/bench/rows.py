"""Results: one row per figure, ours beside the peer's, with a bar where one is to be met."""

import dataclasses
import json
import operator

OPERATORS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclasses.dataclass(frozen=True)
class Bar:
    """subject is what is held against the limit: "ratio" or "ours"."""

    subject: str
    compare: str
    limit: float

    def met_by(self, row):
        return OPERATORS[self.compare](getattr(row, self.subject), self.limit)

    def __str__(self):
        return f"{self.subject} {self.compare} {self.limit:g}"


@dataclasses.dataclass
class Row:
    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    ratio: float = None
    bar: Bar = None
    broken: bool = False  # a load behind these figures had errors

    def __post_init__(self):
        if self.ratio is None and self.peer:
            self.ratio = self.ours / self.peer

    @property
    def passed(self):
        """None: nothing to pass."""
        if self.broken:
            return False
        return self.bar.met_by(self) if self.bar else None

    def as_json(self):
        return {
            "name": self.name,
            "ours": rounded(self.ours),
            "peer": rounded(self.peer),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": rounded(self.ratio),
            "bar": self.bar.limit if self.bar else None,
            "pass": self.passed,
        }


def rounded(value):
    return None if value is None else float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def as_json(rows):
    return "[\n" + ",\n".join("  " + json.dumps(row.as_json()) for row in rows) + "\n]"


def as_table(rows):
    verdicts = {None: "", True: "ok", False: "MISSED"}
    lines = [("", "ours", "peer", "", "", "ratio", "bar", "")]
    for row in rows:
        figures = row.as_json()
        lines.append((
            row.name,
            f"{figures['ours']:g}",
            "" if figures["peer"] is None else f"{figures['peer']:g}",
            row.unit,
            row.peer_name,
            "" if row.ratio is None else f"{row.ratio:.3f}",
            str(row.bar or ""),
            "BROKEN" if row.broken else verdicts[row.passed],
        ))
    widths = [max(map(len, column)) for column in zip(*lines)]
    numeric = {1, 2, 5}
    return "\n".join(
        "  ".join(c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )
