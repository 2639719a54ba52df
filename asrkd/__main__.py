"""The entry point of `asrkd` and of `python -m asrkd`, which is how torchrun starts a command on several processes."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line and run it. The imports take seconds, in which Ctrl-C is one line, too, as is a library that cannot be loaded."""
    try:
        from asrkd.cli import cli, run_command
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        reason = " ".join(str(error).split())
        print(
            f"asrkd: a library that asrkd needs cannot be loaded ({reason}); install asrkd again: pip install --force-reinstall asrkd",
            file=sys.stderr,
        )
        sys.exit(1)
    run_command(cli)


if __name__ == "__main__":
    main()
