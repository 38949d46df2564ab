"""`python -m pwc_exp.predict`: the flow of frames as files: .flo, pictures, maps, videos."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.prediction.command.predict`, imported only once the configuration is valid."""
    cli.run("predict", "pwc_exp.prediction.command:predict")


if __name__ == "__main__":
    main()
