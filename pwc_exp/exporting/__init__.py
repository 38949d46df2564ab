"""A network as files that other programs run, each held to the network itself, in pixels.

    <out>/<format>/...          the files of a format
    <out>/<format>/card.json    what they are: units, order, sizes, weights, versions, differences
    <out>/parity.json           how far each format is from the network

exportation.py    the command: all formats, or nothing
formats.py        which formats there are, and how far from the network each may be
graph.py          the network as one function: frames of 8 bits in, pixels out
keras_archive.py  saved_model.py  onnx_model.py  onnx_graph.py  tflite.py    a format each
engine.py         what runs a format, and packages that may be missing
parity.py         the comparison
card.py           card.json
weights_file.py   the commands `export weights` and `export card`: weights in float16 with a card
"""
