"""Files that PyTorch saved, read without PyTorch and without running what is in them.

Such a file is a pickle, a program for a small machine, beside raw storages. `unpickler` is a
machine of its own that knows what tensors in dictionaries need and calls nothing; any other name
or instruction ends the reading.

unpickler.py    the instructions of a pickle
tensors.py      storages and tensors, with their bounds
containers.py   the two formats: zip, since PyTorch 1.6, and the one before
state_dict.py   the tensors of a model by name, wherever the file keeps them
"""

from pwc_exp.models.torch_files.containers import is_torch_file
from pwc_exp.models.torch_files.state_dict import read_state_dict

__all__ = ["is_torch_file", "read_state_dict"]
