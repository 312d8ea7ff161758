"""The `ghostwriter` command: a client of the deployments, one file per subcommand."""
