"""The entry point of `asrkd` and of `python -m asrkd`, which is how torchrun starts a command on several processes."""

from __future__ import annotations

import sys

from asrkd.extras import broken_library


def main() -> None:
    """Import the command line and run it. Ctrl-C while it is imported is silent, and a library that cannot be loaded is one line."""
    try:
        from asrkd.cli import cli, run_command
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"asrkd: {broken_library(error)}", file=sys.stderr)
        sys.exit(1)
    run_command(cli)


if __name__ == "__main__":
    main()
