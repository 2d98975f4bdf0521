"""scutil --get ComputerName, which names the owner more often than not."""

import sys

print("Lab’s Mac mini") if sys.argv[1:] == ["--get", "ComputerName"] else sys.exit(1)
