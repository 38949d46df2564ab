"""Where weights come from: the file, who trained them, on what, and what that permits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

OWN = "pwc_exp"
TFOPTFLOW = "philferriere/tfoptflow"
NVLABS = "NVlabs/PWC-Net"
PTLFLOW = "hmorimitsu/ptlflow"
MMFLOW = "open-mmlab/mmflow"
RESTRICTIONS = ("NC", "research only")  # in a licence that does not permit every use


class Terms(NamedTuple):
    """What a project says of the weights that it has published."""

    licence: str
    data: tuple[str, ...]  # what all of them were trained on


_RESEARCH_DATA = tuple(f"{name} (for research only)" for name in ("FlyingChairs", "FlyingThings3D"))
# The licence files of the repositories. A file does not say who made it: its layout tells the
# project, and these are the terms of that project's own weights.
TERMS = {
    TFOPTFLOW: Terms("MIT", _RESEARCH_DATA),
    NVLABS: Terms("CC BY-NC-SA 4.0", _RESEARCH_DATA),
    PTLFLOW: Terms("CC BY-NC-SA 4.0", _RESEARCH_DATA),
    MMFLOW: Terms("Apache-2.0", ("FlyingChairs (for research only)",)),
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Weights' place, content and history, as far as these are known.

    path: where they really lie; of a run, its checkpoint.
    sha256: of the file with the weights; of a TensorFlow checkpoint, of all its files in order.
    format: what kind of file it is.
    project: who has such weights.
    licence: of that project's weights.
    data: what they were trained on, with licences.
    started_from: the record of the weights that their training started from.
    """

    path: Path
    sha256: str
    format: str
    project: str
    licence: str
    data: tuple[str, ...] = ()
    started_from: dict[str, Any] | None = None

    @property
    def restricted(self) -> bool:
        """Whether a licence on the way to these weights does not permit every use."""
        before = self.started_from or {}
        licences = [self.licence, *self.data, before.get("licence", ""), *before.get("data", ())]
        further = bool(before.get("restricted"))
        return further or any(mark in text for text in licences for mark in RESTRICTIONS)

    def record(self) -> dict[str, Any]:
        """What is kept with results, for JSON."""
        return {
            **asdict(self),
            "path": str(self.path),
            "data": list(self.data),
            "restricted": self.restricted,
        }

    def notice(self) -> str | None:
        """A line for the terminal if the use of these weights is restricted."""
        if not self.restricted:
            return None
        line = f"weights of {self.project}, {self.licence}{_trained_on(self.data)}"
        if self.started_from:
            before = self.started_from
            line += f"; started from those of {before.get('project')}, {before.get('licence')}"
        return line


def _trained_on(data: Sequence[str]) -> str:
    return f"; trained on {', '.join(data)}" if data else ""
