"""Data of the machine: real and rendered images, presence of classes, step views, and batches."""
