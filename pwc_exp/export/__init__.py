"""`python -m pwc_exp.export`: a network as files: formats of other programs, or its weights.

formats.py         `export`: how each format is written, what runs it, its error in pixels
onnx_graph.py      the ONNX graph
weights_file.py    `export weights` and `export card`: weights in float16 with a card
"""

from pwc_exp import cli


def main() -> None:
    """Writes formats that other programs run; with a first argument, weights or their card."""
    cli.run_one_of(
        "export",
        {
            "": "pwc_exp.export.formats:export",
            "weights": "pwc_exp.export.weights_file:export_weights",
            "card": "pwc_exp.export.weights_file:measure",
        },
    )
