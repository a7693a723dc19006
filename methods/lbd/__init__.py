"""LBD, see README.md in this folder."""

from methods.lbd.method import Lbd

__all__ = ["Lbd"]
