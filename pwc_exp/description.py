"""The layers of a model, its parameters and operations, as text."""

from pwc_exp.build import build_model
from pwc_exp.config.commands import DescribeConfig
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.summary import summarize


def describe(config: DescribeConfig) -> None:
    """Prints a line per layer and the sums."""
    model = build_model(config.model, PrecisionConfig(policy=Precision.fp32))
    print(description(model, (config.size[0], config.size[1]), name=config.model.name))


def description(model: PWCNet, size: tuple[int, int], *, name: str) -> str:
    """The table as text, for a pair of frames of `size` (height, width)."""
    rows = summarize(model, size)
    lines = [f"{'layer':<22}{'level':>6}{'output (H x W x C)':>22}{'parameters':>13}{'MFLOP':>12}"]
    for row in rows:
        shape = f"{row.size[0]} x {row.size[1]} x {row.channels}"
        lines.append(
            f"{row.name:<22}{row.level:>6}{shape:>22}{row.parameters:>13,}{row.flops / 1e6:>12,.1f}"
        )
    flops = sum(row.flops for row in rows)
    conventions = ", ".join(
        key if value is True else f"{key} {value}"
        for key, value in model.conventions.items()
        if value is not False
    )
    lines += [
        "",
        f"model        {name}: levels {model.levels} to {model.output_level}, {conventions}",
        f"parameters   {model.count_params():,}",
        f"operations   {flops / 1e9:,.1f} GFLOP for a pair of {size[0]} x {size[1]} "
        "(height x width), multiplications and additions counted",
    ]
    return "\n".join(lines)
