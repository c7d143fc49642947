"""The official client of TGI (`huggingface_hub`), used so that nothing of this machine reaches the server.

The client would send the Hugging Face token that it finds on the machine, refuse to work where HF_HUB_OFFLINE is set,
take proxies from the environment, and knows no CA file of its own. So it gets an HTTP client that is ours.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import httpx2
from huggingface_hub import AsyncInferenceClient

from safescale.core.errors import BackendTimeoutError, BackendUnavailableError, InvalidInputError, SafescaleError
from safescale.inference.backends.tgi.errors import from_client
from safescale.inference.upstream.replica_set import Replica
from safescale.runtime.http.client import CONNECT_TIMEOUT_S, KEEP_ALIVE_S, HttpOptions
from safescale.runtime.settings import read_secret

NO_TOKEN = "none"  # noqa: S105
"""Given to the client so that it looks for no token; what is sent is set by `_own_headers`."""

T = TypeVar("T")


class OfficialClient:
    """One `AsyncInferenceClient` for each replica over one pool of connections. Plain answers; it streams nothing."""

    def __init__(self, model: str, options: HttpOptions) -> None:
        self._model = model
        self._options = options
        self._http: httpx2.AsyncClient | None = None
        self._clients: dict[str, AsyncInferenceClient] = {}

    async def generate(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Any:
        """Ask `/generate` with a body of `tgi.wire`; return the answer as a mapping.

        Raises:
            SafescaleError: as `tgi.errors.from_client`; BackendTimeoutError after `timeout_s`.

        """
        client = self._client(replica)
        # The full URL: at the root the server answers with the prompt, and in a list.
        url = f"{replica.url}/generate"
        return await self._asked(client.text_generation(body["inputs"], model=url, **body["parameters"]), timeout_s)

    async def chat(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Any:
        """Ask `/v1/chat/completions`; as `generate`."""
        return await self._asked(self._client(replica).chat_completion(**body), timeout_s)

    async def _asked(self, answer: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(max(timeout_s, 0.001)):
                return await answer
        except TimeoutError as error:
            raise BackendTimeoutError(f"TGI of {self._model} gave no whole answer within {timeout_s:g} s") from error
        except SafescaleError:
            raise
        except Exception as error:
            raise from_client(self._model, error) from error

    def _client(self, replica: Replica) -> AsyncInferenceClient:
        if replica.url not in self._clients:
            client = AsyncInferenceClient(model=replica.url, provider="hf-inference", token=NO_TOKEN)
            # Its only public way to another HTTP client is one for the whole process.
            client._async_client = self._opened()
            self._clients[replica.url] = client
        return self._clients[replica.url]

    def _opened(self) -> httpx2.AsyncClient:
        if self._http is None:
            try:
                token = read_secret(self._options.api_key_file)
                context = ssl.create_default_context(cafile=self._options.ca_file)
            except InvalidInputError as error:
                raise BackendUnavailableError(error.message) from error
            except (OSError, ssl.SSLError) as error:
                raise BackendUnavailableError(f"the CA file {self._options.ca_file} cannot be read") from error
            self._http = httpx2.AsyncClient(
                verify=context,
                trust_env=False,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=self._options.connections, keepalive_expiry=KEEP_ALIVE_S),
                event_hooks={"request": [_own_headers(token)]},
            )
        return self._http

    async def close(self) -> None:
        """Close all connections."""
        self._clients.clear()
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def _own_headers(token: str) -> Any:
    """Return a hook that sets our headers instead of the library's, and a timeout for connecting alone."""

    async def set_headers(request: httpx2.Request) -> None:
        del request.headers["authorization"]
        if token:
            request.headers["authorization"] = f"Bearer {token}"
        request.headers["user-agent"] = "safescale"
        request.headers["accept-encoding"] = "identity"
        request.extensions["timeout"] = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S).as_dict()

    return set_headers
