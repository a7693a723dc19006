"""Hydra configuration: tracks, backbones and recipes as YAML; their schema is bench.config."""
