"""`python -m pwc_exp.data`: checks, counts, lists, draws, halves and fetches data sets."""

from pwc_exp import cli


def main() -> None:
    """Runs the function of the command that the first argument names."""
    cli.run_one_of(
        "data",
        {
            "check": "pwc_exp.inspection:check",
            "stats": "pwc_exp.inspection:stats",
            "index": "pwc_exp.inspection:list_samples",
            "show": "pwc_exp.inspection:show",
            "halfres": "pwc_exp.acquisition:halfres",
            "fetch": "pwc_exp.acquisition:fetch",
        },
    )


if __name__ == "__main__":
    main()
