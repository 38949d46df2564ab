"""`python -m pwc_exp.sync RUN`: sends to MLflow what it lacks of a training run."""

from pwc_exp import cli


def main() -> None:
    """Runs `pwc_exp.training.run_dir.sync`, imported only once the configuration is valid."""
    cli.name_path("run")
    cli.run("sync", "pwc_exp.training.run_dir:sync")


if __name__ == "__main__":
    main()
