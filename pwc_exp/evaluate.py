"""`python -m pwc_exp.evaluate`: the errors of a flow, a network's or in files, on a data set."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.evaluation.evaluate`, imported only once the configuration is valid."""
    cli.run("evaluate", "pwc_exp.evaluation:evaluate")


if __name__ == "__main__":
    main()
