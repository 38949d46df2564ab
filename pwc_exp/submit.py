"""`python -m pwc_exp.submit`: what a benchmark's server takes, made, checked, and scored."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.submission.submit`, imported only once the configuration is valid."""
    cli.run("submit", "pwc_exp.submission:submit")


if __name__ == "__main__":
    main()
