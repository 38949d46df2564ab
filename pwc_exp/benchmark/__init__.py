"""`python -m pwc_exp.benchmark`: the speed of networks, exported formats and the input pipeline."""

from pwc_exp import cli


def main() -> None:
    """Times networks; with the first argument `pipeline`, the parts of the input pipeline."""
    tasks = {"": "pwc_exp.benchmark.speed:benchmark", "pipeline": "pwc_exp.benchmark.pipeline:run"}
    cli.run_one_of("benchmark", tasks)
