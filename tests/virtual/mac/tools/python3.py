"""python3 of a Mac without the command line tools: a stub that offers to install them."""

import sys

sys.exit("xcode-select: note: No developer tools were found, requesting install.")
