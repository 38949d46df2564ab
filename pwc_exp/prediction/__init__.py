"""Flow of frames as files: from images, lists, videos or a stream, of any size.

sources.py       pairs of frames, decoded when they are needed
video.py         video files, read and written
estimation.py    batches, sizes, memory, the speed of full colour
tiling.py        the same flow in less memory
outputs.py       results of a pair and of all pairs, and their records
command.py       the command
"""
