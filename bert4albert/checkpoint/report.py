"""LoadReport: where every number of a model came from, and what became of every tensor of a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_SHOWN = 12


@dataclass
class LoadReport:
    """What loading did; print it for a short table.

    Attributes:
        source, dialect: the file and whose names it uses.
        filled: model weight -> the tensor it was filled from.
        fresh: weights of heads that the file lacks and that were allowed to start at random.
        missing: model weight -> the tensor the file should have for it.
        mis_shaped: tensor -> (shape in the file, shape that the model needs).
        mis_typed: tensor -> its dtype, which is not that of a weight.
        exempt: tensor -> why it is not needed.
        unexpected: tensors that nothing accounts for.
    """

    source: str
    dialect: str
    filled: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    mis_shaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    mis_typed: dict[str, str] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every weight was filled and every tensor accounted for."""
        return not (self.missing or self.mis_shaped or self.mis_typed or self.unexpected)

    @property
    def tensors(self) -> dict[str, str]:
        """What became of each tensor of the file: 'used', 'exempt: why', or what is wrong."""
        return {
            **dict.fromkeys(self.filled.values(), "used"),
            **{name: f"exempt: {why}" for name, why in self.exempt.items()},
            **dict.fromkeys(self.mis_shaped, "mis-shaped"),
            **dict.fromkeys(self.mis_typed, "mis-typed"),
            **dict.fromkeys(self.unexpected, "unexpected"),
        }

    def problems(self) -> str:
        """Return everything that does not fit, in one sentence; empty if all fits."""
        parts = []
        if self.missing:
            parts.append(f"missing {_listed(sorted(set(self.missing.values())))}")
        if self.mis_shaped:
            shapes = [
                f"{name} has shape {found} in the file and needs shape {needed}"
                for name, (found, needed) in self.mis_shaped.items()
            ]
            parts.append(f"wrong shape: {_listed(shapes)}")
        if self.mis_typed:
            typed = [f"{name} holds {dtype}, not floats" for name, dtype in self.mis_typed.items()]
            parts.append(f"wrong dtype: {_listed(typed)}")
        if self.unexpected:
            parts.append(f"unexpected {_listed(self.unexpected)}")
        return "; ".join(parts)

    def __str__(self) -> str:
        used = len(set(self.filled.values()))
        rows = [
            f"{self.source} ({self.dialect})",
            f"  {len(self.filled):5} weights filled from {used} tensors",
        ]
        if self.fresh:
            rows.append(f"  {len(self.fresh):5} weights fresh: {_listed(self.fresh)}")
        rows += [f"  {count:5} tensors exempt: {why}" for why, count in Counter(self.exempt.values()).items()]
        rows += [f"        {part}" for part in self.problems().split("; ") if part]
        return "\n".join(rows)


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
