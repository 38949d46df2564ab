"""`python -m pwc_exp.describe`: the layers of a model, its parameters and operations."""

from pwc_exp import cli
from pwc_exp.config.commands import DescribeConfig
from pwc_exp.config.training import Precision, PrecisionConfig


def main() -> None:
    """Runs `describe`."""
    cli.run("describe", "pwc_exp.describe:describe")


def describe(config: DescribeConfig) -> None:
    """Prints a line per layer and the sums."""
    from pwc_exp.build import build_model
    from pwc_exp.models.summary import description

    model = build_model(config.model, PrecisionConfig(policy=Precision.fp32))
    print(description(model, (config.size[0], config.size[1]), name=config.model.name))


if __name__ == "__main__":
    main()
