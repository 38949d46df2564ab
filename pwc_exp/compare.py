"""`python -m pwc_exp.compare RUN_A RUN_B …`: how runs and evaluations differ, and how surely."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.comparison.compare`, imported only once the configuration is valid."""
    cli.name_paths("runs")
    cli.run("compare", "pwc_exp.comparison:compare")


if __name__ == "__main__":
    main()
