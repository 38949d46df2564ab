"""`python -m pwc_exp`, installed as `pwc`: lists the commands, and runs the one that is named."""

import importlib
import sys

import pwc_exp
from pwc_exp import cli
from pwc_exp.errors import ConfigError

# {command: (what it does, an example)}
COMMANDS = {
    "predict": ("optical flow of images and videos", "pwc predict a.png b.png"),
    "train": ("train a network", "pwc train experiment=quickstart"),
    "evaluate": ("errors on a data set", "pwc evaluate weights=fast data=sintel data.root=…"),
    "compare": ("paired comparison of runs", "pwc compare outputs/train/… outputs/train/…"),
    "leaderboard": ("the best runs in MLflow", "pwc leaderboard dataset=synthetic"),
    "export": ("ONNX, SavedModel, LiteRT, Keras", "pwc export out=exported"),
    "serve": ("optical flow over HTTP", "pwc serve port=8000"),
    "submit": ("bundles for benchmark servers", "pwc submit benchmark=sintel root=… out=…"),
    "data": ("check, show, fetch data sets", "pwc data check data=sintel data.root=…"),
    "describe": ("layers and operations of a model", "pwc describe model=lg"),
    "benchmark": ("speed of networks and input pipeline", "pwc benchmark model=small"),
    "ui": ("MLflow and TensorBoard in the browser", "pwc ui"),
    "sync": ("send a run to MLflow", "pwc sync outputs/train/…"),
    "replay": ("repeat a non-finite update", "pwc replay outputs/train/…/blackbox/…"),
}


def overview() -> str:
    """The list of commands."""
    lines = [f"pwc_exp {pwc_exp.__version__}: PWC-Net optical flow in TensorFlow", ""]
    lines += [f"  {name:<13}{what:<39}{example}" for name, (what, example) in COMMANDS.items()]
    return "\n".join([*lines, "", "Settings of a command: pwc <command> --help"])


def main() -> None:
    """Runs `pwc <command> …` as `python -m pwc_exp.<command> …`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    with cli.exit_codes():
        if name in ("--help", "-h"):
            print(overview())
            return
        if name == "--version":
            print(f"pwc_exp {pwc_exp.__version__}")
            return
        if name not in COMMANDS:
            raise ConfigError(f"pwc: must be one of {', '.join(COMMANDS)}. Received: {name}")
    del sys.argv[1]
    entry = "pwc_exp.data.__main__" if name == "data" else f"pwc_exp.{name}"
    importlib.import_module(entry).main()


if __name__ == "__main__":
    main()
