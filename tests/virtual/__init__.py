"""Devices that are not there: stand-ins for hardware, each honest about what it cannot prove (README.md)."""
