"""launchctl: nothing of melt asks it for anything."""

import sys

sys.exit("Unrecognized subcommand")
