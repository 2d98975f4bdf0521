"""The self-test of a device: everything that a measurement relies on is tried there, and told with its evidence."""
