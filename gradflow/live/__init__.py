"""The live page: sliders, and numbers that are computed while one looks; from a server, or all inside one file."""

from gradflow.live.page import write_live

__all__ = ["write_live"]
