"""`serve`: the adapters behind OpenAI's audio API."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, Number, base_model_option, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from adapter_hub.serving.service import Service


@click.command()
@click.argument("refs", metavar="[REF...]", nargs=-1, type=PLACE)
@click.option("--host", metavar="NAME", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--alias",
    "aliases",
    metavar="NAME=REF",
    multiple=True,
    help="A further name for a model, like whisper-1=auto; may be repeated.",
)
@click.option("--only", is_flag=True, help="Serve nothing but the models named and the aliases.")
@base_model_option
@click.option(
    "--api-key-file",
    metavar="FILE",
    type=PATH,
    help="Let in only requests with a key of this file: one a line, or NAME KEY.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    metavar="ORIGIN",
    multiple=True,
    help="Let web pages of https://… ask, too; may be repeated; * is all.",
)
@click.option("--insecure", is_flag=True, help="Listen on other addresses than this machine's without keys.")
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Windows decoded together, from any requests and adapters.",
)
@click.option(
    "--max-wait",
    metavar="MS",
    type=Number(0),
    default=20,
    show_default=True,
    help="Milliseconds that a window may wait for others to fill its batch.",
)
@click.option(
    "--max-queue",
    metavar="N",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Requests that are open at once; more are answered with 429.",
)
@click.option(
    "--max-per-key",
    metavar="N",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Of them those of one key, or of one address where there are no keys.",
)
@click.option(
    "--max-upload",
    metavar="MB",
    type=Number(0, min_open=True),
    default=512,
    show_default=True,
    help="Megabytes of a request.",
)
@click.option(
    "--max-seconds",
    metavar="N",
    type=Number(0, min_open=True),
    default=14400,
    show_default=True,
    help="Seconds of audio in a request.",
)
@click.option(
    "--resident",
    metavar="MB",
    type=Number(0, min_open=True),
    default=8192,
    show_default=True,
    help="Megabytes of adapters in memory; those used longest ago make room.",
)
@click.option(
    "--refresh",
    metavar="N",
    type=Number(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds between two looks at the registries for new versions and statuses.",
)
@click.option(
    "--timeout",
    metavar="N",
    type=Number(0, min_open=True),
    default=30,
    show_default=True,
    help="Seconds that a client may take to send or read the next piece.",
)
@click.option(
    "--stop-timeout",
    metavar="N",
    type=Number(0),
    default=300,
    show_default=True,
    help="Seconds that open requests have to finish once the server is asked to stop.",
)
@json_option
@click.pass_obj
def serve(
    options: GlobalOptions,
    /,
    refs: tuple[str, ...],
    host: str,
    port: int,
    aliases: tuple[str, ...],
    insecure: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Serve adapters behind OpenAI's audio API, with a page to try them.

    Clients name an adapter as their `model`, or `auto`, `base-model` or an alias. Each REF is loaded at the
    start, everything else that the registries list when it is first asked for; without REF that is `auto`.
    Windows of all requests are decoded together, whatever their adapters.

    SIGTERM or Ctrl-C finishes the open requests and refuses new ones. Needs the extra `serve`.
    """
    from adapter_hub.serving import check_installed

    check_installed()
    from adapter_hub.serving.options import ServingOptions, parse_aliases
    from adapter_hub.serving.server import Server, is_loopback
    from adapter_hub.serving.service import Service

    if how["api_key_file"] is None and not insecure and not is_loopback(host):
        raise InvalidInputError(
            f"--host {host} lets others ask this server; name the keys that are let in with --api-key-file, "
            "or add --insecure"
        )
    server = Server.bound(host, port)
    chosen = ServingOptions(
        models=refs or ("auto",),
        aliases=parse_aliases(aliases),
        registry=options.named_registry,
        cache=str(options.cache_folder),
        device=options.device,
        dtype=options.dtype,
        **how,
    )
    _log_to_stderr()
    with closing(server), closing(Service.open(chosen, options.warn)) as service:
        facts = _facts(server.url, service)
        server.run(service, lambda: echo_json(facts) if as_json else echo_note(_line(facts)))


def _facts(url: str, service: Service) -> dict[str, Any]:
    models = service.models
    return {
        "url": url,
        "api": f"{url}/v1",
        "process": os.getpid(),
        "base_model": {"id": models.base.id, "digest": models.base.digest},
        "models": models.names,
        "keys": service.keys is not None and sorted(service.keys.hashes),
    }


def _line(facts: dict[str, Any]) -> str:
    named = ", ".join(facts["models"])
    return f"serving {named} on {facts['base_model']['id']} at {facts['url']} (API: {facts['api']})"


def _log_to_stderr() -> None:
    """Print the lines of the access log as they are, and what goes wrong as warnings."""
    from adapter_hub.serving.access_log import LOGGER

    handler = _Notes()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the client is told what is malformed


class _Notes(logging.Handler):
    """Prints log lines on stderr, escaped like everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        echo_note(record.getMessage())
