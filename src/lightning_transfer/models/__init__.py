"""Pretrained convolutional networks as rows of named stages; plain torch."""
