"""`python -m pwc_exp.serve`: the flow of two frames, over HTTP."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.serving.serve`, imported only once the configuration is valid."""
    cli.run("serve", "pwc_exp.serving:serve")


if __name__ == "__main__":
    main()
