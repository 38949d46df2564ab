"""Files of frames, masks and flow: read, checked and written; and read as TensorFlow operations."""
