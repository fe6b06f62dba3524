"""Transfer learning with convolutional networks, as PyTorch Lightning modules."""
