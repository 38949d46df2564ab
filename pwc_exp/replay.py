"""`python -m pwc_exp.replay BOX`: repeats an update that was not finite, from its black box."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.training.replay.replay`, imported only once the configuration is valid."""
    cli.name_path("box")
    cli.run("replay", "pwc_exp.training.replay:replay")


if __name__ == "__main__":
    main()
