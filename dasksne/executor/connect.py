"""A client of a cluster that is named by its address or its file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client
from distributed.comm import parse_address
from distributed.security import Security

from dasksne.errors import InvalidInputError


@contextmanager
def connected(address: str | None = None, scheduler_file: str | None = None) -> Iterator[None]:
    """Make a cluster's client the current one for a while; without either, change nothing.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, such as tcp://host:8786.
    scheduler_file : path, optional
        The file that a scheduler wrote its address to, which must exist.

    Raises
    ------
    OSError
        The scheduler does not answer.
    InvalidInputError
        The scheduler speaks TLS and no certificates are configured, or the other way round; or the
        file is another one.
    """
    if address is None and scheduler_file is not None:
        address = _address_in(scheduler_file)
    if address is None:
        yield
        return
    _require_certificates(address)
    with Client(address):
        yield


def _address_in(scheduler_file: str) -> str:
    try:
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{scheduler_file} holds no address of a Dask scheduler; give what `dask scheduler "
            "--scheduler-file` wrote"
        ) from error


def _require_certificates(address: str) -> None:
    """Raise InvalidInputError where the certificates of Dask's configuration do not go with it.

    Dask finds out itself, but leaves behind a client that never was connected.
    """
    security = Security()
    certified = security.get_connection_args("client")["ssl_context"] is not None
    encrypted = parse_address(address)[0] == "tls"
    if (encrypted and not certified) or (security.require_encryption and not encrypted):
        raise InvalidInputError(
            f"the scheduler at {address} cannot be reached as configured: one at tls://... needs "
            "--tls-ca-file, --tls-cert and --tls-key, one at tcp://... none of them"
        )
