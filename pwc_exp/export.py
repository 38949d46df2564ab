"""`python -m pwc_exp.export`: a network as files: formats of other programs, or its weights."""

from pwc_exp import cli


def main() -> None:
    """Writes formats that other programs run; with a first argument, weights or their card."""
    cli.run_one_of(
        "export",
        {
            "": "pwc_exp.exporting.exportation:export",
            "weights": "pwc_exp.exporting.weights_file:export_weights",
            "card": "pwc_exp.exporting.weights_file:measure",
        },
    )


if __name__ == "__main__":
    main()
