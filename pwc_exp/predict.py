"""`python -m pwc_exp.predict`: the flow between consecutive frames, as .flo files and pictures."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.prediction.predict`, imported only once the configuration is valid."""
    cli.run("predict", "pwc_exp.prediction:predict")


if __name__ == "__main__":
    main()
