"""`python -m pwc_exp.benchmark`: how fast a network, or the way to its examples, is."""

from pwc_exp import cli


def main() -> None:
    """Times the network or, if the first argument is `pipeline`, what feeds it."""
    cli.run_one_of(
        "benchmark",
        {"": "pwc_exp.timing:benchmark", "pipeline": "pwc_exp.feed_timing:benchmark"},
    )


if __name__ == "__main__":
    main()
