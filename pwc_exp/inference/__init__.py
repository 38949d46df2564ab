"""From frames to flow with one network: compiled, at any size, within the available memory.

estimation.py   compiled functions of a network; `Estimator`, which every command uses
tiling.py       the same flow in less memory
"""
