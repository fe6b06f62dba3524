"""LightningDataModules; they deliver uint8 images."""
