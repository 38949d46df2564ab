"""`python -m pwc_exp.submit`: predictions for the server of a benchmark, validated."""

from pwc_exp import cli


def main() -> None:
    """Runs `submission.submit.submit`, imported only once the configuration is valid."""
    cli.run("submit", "pwc_exp.submission.submit:submit")


if __name__ == "__main__":
    main()
