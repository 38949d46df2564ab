"""`python -m pwc_exp.benchmark`: how fast a network runs, beside what this machine can do."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.timing.benchmark`, imported only once the configuration is valid."""
    cli.run("benchmark", "pwc_exp.timing:benchmark")


if __name__ == "__main__":
    main()
