"""`python -m pwc_exp.describe`: the layers of a model, its parameters and operations."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.description.describe`, imported only once the configuration is valid."""
    cli.run("describe", "pwc_exp.description:describe")


if __name__ == "__main__":
    main()
