"""`python -m vqtok` is the command `vqtok`."""

import os
import sys

from ._find import find_vqtok_bin


def main() -> None:
    """Become the program: its signals and its exit code are this process's."""
    try:
        program = find_vqtok_bin()
    except FileNotFoundError as error:
        sys.exit(str(error))
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    main()
