"""`matching-pipeline gallery`: a web page of sources, entities, matches and failures."""

import click

from matching_pipeline.cli.console import say
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.settings import Settings

PORT = 3001


@click.command("gallery")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to serve; any but this machine's needs a password.",
)
@click.option("--port", default=PORT, show_default=True, help="The port to serve.")
def gallery_command(host: str, port: int) -> None:
    """Serve web pages of the matches, their reasons, and what is missing, until Ctrl-C.

    A role of the database that only reads can serve it; the buttons do not work then.
    """
    from matching_pipeline.gallery.serving import serve

    settings = Settings()
    database_url = resolve_database_url(settings)
    say(f"The gallery: http://{f'[{host}]' if ':' in host else host}:{port}")
    serve(settings.model_copy(update={"database_url": database_url}), database_url, host, port)
