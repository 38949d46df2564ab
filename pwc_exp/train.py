"""`python -m pwc_exp.train`: trains a network and shows it in terminal, TensorBoard and MLflow."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.training.loop.train`, imported only once the configuration is valid."""
    cli.run("train", "pwc_exp.training.loop:train")


if __name__ == "__main__":
    main()
