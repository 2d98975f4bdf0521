"""The real adbd of AOSP, built from Debian's source package: the reference that keeps the emulated one honest."""
