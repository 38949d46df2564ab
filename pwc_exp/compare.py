"""`python -m pwc_exp.compare RUN_A RUN_B …`: how runs and evaluations differ, and significance."""

from pwc_exp import cli


def main() -> None:
    """Runs `evaluation.compare.compare`, imported only once the configuration is valid."""
    cli.name_paths("runs")
    cli.run("compare", "pwc_exp.evaluation.compare:compare")


if __name__ == "__main__":
    main()
