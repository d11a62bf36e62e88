"""The process: a socket, a model, and uvicorn between them."""

from __future__ import annotations

import ipaddress
import socket

import uvicorn
from starlette.types import ASGIApp

from ecg_hf.errors import ConfigurationError
from ecg_hf.serving.gate import Limits

__all__ = ["check_exposure", "listen", "run"]

_SPARE_CONNECTIONS = 256


def check_exposure(host: str, *, token: str | None, behind_proxy: bool) -> None:
    """Refuse to answer whoever can reach this machine.

    Args:
        host: Address to listen on.
        token: What requests have to bring.
        behind_proxy: Whether somebody else checks who asks.

    Raises:
        ConfigurationError: if the host is not loopback and nobody checks, or the token can't be one.
    """
    if token is not None and not (token.isascii() and token.isprintable() and len(token.split()) == 1):
        raise ConfigurationError("a token is printable ASCII without blanks")
    if token is None and not behind_proxy and not _is_loopback(host):
        raise ConfigurationError(
            f"{host} is not loopback: others reach it. Give --token, or --behind-proxy if a proxy checks who asks",
            value=host,
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address, before a model is loaded for nothing.

    Raises:
        ConfigurationError: if that is impossible, with the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        # So that a server that was killed can be started again at once.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigurationError(f"can't listen on {host}:{port}: {error.strerror or error}") from None
    return bound


def run(app: ASGIApp, bound: socket.socket, limits: Limits) -> None:
    """Answer until a signal ends the process; requests under way are finished first."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=limits.queue + _SPARE_CONNECTIONS,
        timeout_graceful_shutdown=int(limits.timeout_s) + 1,
    )
    uvicorn.Server(config).run(sockets=[bound])
