"""Blocks shared by the methods: losses, growing heads and the two families of segmentation networks."""
