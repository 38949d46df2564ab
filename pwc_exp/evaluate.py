"""`python -m pwc_exp.evaluate`: the errors of estimated flow, a network's or in files, on data."""

from pwc_exp import cli


def main() -> None:
    """Runs `evaluator.evaluate`, imported only once the configuration is valid."""
    cli.run("evaluate", "pwc_exp.evaluation.evaluator:evaluate")


if __name__ == "__main__":
    main()
