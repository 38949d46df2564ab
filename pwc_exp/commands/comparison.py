"""The configuration of a comparison."""

from dataclasses import dataclass, field

from pwc_exp.checks import check
from pwc_exp.commands.evaluation import BootstrapConfig


@dataclass(kw_only=True)
class CompareConfig:
    """How runs and evaluations differ from the first of them."""

    runs: list[str]  # folders of training runs or of evaluations; the first is the reference
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    out: str | None = None  # the page; null: outputs/compare/<time>/compare.html

    def __post_init__(self) -> None:
        requirement = "must name at least two folders"
        check(len(self.runs) > 1, "runs", requirement, self.runs)
