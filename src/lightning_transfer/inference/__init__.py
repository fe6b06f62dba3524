"""Uses of a trained network: prediction and explanation."""
