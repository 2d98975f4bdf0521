"""melt: on-device benchmarks of language models, with numbers that can be believed."""

__version__ = "0.1.0"
