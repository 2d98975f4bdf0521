"""`python -m melt` is the `melt` command."""

from melt.cli.main import main

raise SystemExit(main())
