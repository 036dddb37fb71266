"""`gemstead stop`: tells the running server to finish what is under way and end.

The server decides how long that may take (serve --grace); this only asks.
"""

from __future__ import annotations

import click

from gemstead.cli.ps import key, place_options
from gemstead.server.client import ask


@click.command()
@place_options
def stop(host: str, port: int) -> None:
    """Stop the running server."""
    ask("POST", "/gemstead/stop", host, port, key())
    print(f"the server at {host} port {port} is stopping")
