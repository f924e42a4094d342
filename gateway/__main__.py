"""``python -m gateway`` and the command ``gateway``."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage."""
    # Ctrl-C while Python still loads modules ends the command without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gateway.cli.app import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app(prog_name="gateway")


if __name__ == "__main__":
    main()
