"""`python -m pwc_exp.data`: checks, counts, lists, draws, halves and fetches data sets."""

from pwc_exp import cli


def main() -> None:
    """Runs the function of the command that the first argument names."""
    cli.run_one_of(
        "data",
        {
            "check": "pwc_exp.data_commands:check",
            "stats": "pwc_exp.data_commands:stats",
            "index": "pwc_exp.data_commands:list_samples",
            "show": "pwc_exp.data_commands:show",
            "halfres": "pwc_exp.data_commands:halfres",
            "fetch": "pwc_exp.data_commands:fetch",
        },
    )


if __name__ == "__main__":
    main()
