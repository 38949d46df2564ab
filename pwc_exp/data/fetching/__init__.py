"""Data sets from their authors' servers: catalogue, download, extraction."""
