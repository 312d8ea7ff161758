"""`python -m stack`: the commands of `stack.commands`; Ctrl-C while they are being imported leaves no traceback."""

import signal


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from stack import commands

    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.main()


if __name__ == "__main__":
    main()
