"""Flow of frames as files: from images, lists, videos or a stream, of any size."""
