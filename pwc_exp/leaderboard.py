"""`python -m pwc_exp.leaderboard`: the best runs that MLflow knows, and what sets them apart."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.ranking.rank`, imported only once the configuration is valid."""
    cli.run("leaderboard", "pwc_exp.ranking:rank")


if __name__ == "__main__":
    main()
