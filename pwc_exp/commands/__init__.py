"""The configuration of each command: its groups, and the knobs that belong to the command itself.

One line for each knob, with its unit; one without a default must be given. Sizes are (height,
width).
"""
