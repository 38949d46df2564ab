"""The flow of frames as files: from images, lists, videos or a stream, of any size.

sources.py, lists.py    pairs of frames, decoded when they are needed
clips.py                videos, read and written
estimation.py           batches, sizes, memory
tiling.py               the same flow in less memory
results.py, films.py    what is written of a pair, and of all pairs together
speeds.py               the speed of full colour, one for all pairs
drawing.py              pictures of one flow
records.py              the small JSON beside each result
command.py              the command
"""
