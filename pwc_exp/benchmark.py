"""`python -m pwc_exp.benchmark`: how fast a network, what feeds it and what guards it are."""

from pwc_exp import cli


def main() -> None:
    """Times the network; if the first argument is one of the others, what surrounds it."""
    cli.run_one_of(
        "benchmark",
        {
            "": "pwc_exp.timing:benchmark",
            "pipeline": "pwc_exp.feed_timing:benchmark",
            "export": "pwc_exp.export_timing:benchmark",
            "safety": "pwc_exp.safety_timing:benchmark",
        },
    )


if __name__ == "__main__":
    main()
