"""Faults that take minutes: run with `make test-faults`, not with `make test`."""

from tests.e2e.conftest import bench, spawn

__all__ = ["bench", "spawn"]
