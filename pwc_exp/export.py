"""`python -m pwc_exp.export`: a network as files that other programs run, compared with it."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.exporting.exportation.export`, imported once the configuration is valid."""
    cli.run("export", "pwc_exp.exporting.exportation:export")


if __name__ == "__main__":
    main()
