"""`python -m pwc_exp.submit`: predictions for the server of a benchmark, validated."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.submission.submit`, imported only once the configuration is valid."""
    cli.run("submit", "pwc_exp.submission:submit")


if __name__ == "__main__":
    main()
