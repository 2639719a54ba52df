"""`python -m asrkd`, which is how torchrun starts a command on several processes."""

from asrkd.cli import main

if __name__ == "__main__":
    main()
