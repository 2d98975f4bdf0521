"""memory_pressure -Q: how much memory is free, asked after a run that failed."""

print("The system has 17179869184 (1048576 pages with a page size of 16384).")
print("System-wide memory free percentage: 51%")
