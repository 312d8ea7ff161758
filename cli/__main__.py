"""`python -m cli`: the same as `ghostwriter`."""

from cli.main import main

main()
