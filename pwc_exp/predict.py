"""`python -m pwc_exp.predict a.png b.png`: the flow of frames as files, pictures and videos."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.prediction.command.predict`, imported only once the configuration is valid."""
    cli.name_paths("frames", most=2)
    cli.run("predict", "pwc_exp.prediction.command:predict")


if __name__ == "__main__":
    main()
