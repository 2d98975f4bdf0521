"""log show, of which only administrators get something."""

import sys

sys.exit("log: Could not open local log store: Operation not permitted")
