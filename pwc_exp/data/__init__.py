"""Data: files of frames and flow, indexes of data sets, generated scenes, augmentation, batches."""
