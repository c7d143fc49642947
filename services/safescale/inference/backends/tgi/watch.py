"""What the replicas of a TGI row serve: looked at before calls now and then, and after the answers of each call."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
    FailedPreconditionError,
    ModelChangedError,
)
from safescale.inference.backends.model_names import tgi_names
from safescale.inference.backends.tgi import wire
from safescale.inference.backends.tgi.adapters import has_effect, unknown
from safescale.inference.backends.tgi.server import TgiServer
from safescale.inference.catalog import ModelRow
from safescale.inference.upstream.replica_set import Replica


class Watch:
    """The replicas of one row. `fresh_s` seconds for which a replica is taken to serve what it served.

    `bound(replica, calls)` is called with the number of calls that a replica takes at once.
    """

    def __init__(self, row: ModelRow, server: TgiServer, fresh_s: float, bound: Callable[[Replica, int], None]) -> None:
        self._row = row
        self._server = server
        self._fresh_s = fresh_s
        self._bound = bound
        self._infos: dict[str, wire.Info] = {}
        # When the look began that is known, by replica.
        self._asked_at: dict[str, float] = {}
        self._looking: dict[str, asyncio.Lock] = {}
        self._models: set[str] = set()
        # Replicas that know the adapter, with what they served then.
        self._adapted: dict[str, wire.Info] = {}

    @property
    def known(self) -> bool:
        """Whether a replica was seen and all that were serve one model."""
        return len({_weights(info) for info in self._infos.values()}) == 1

    @property
    def fingerprint(self) -> str:
        """The versions of TGI and its names of the model over all replicas, each once, in order."""
        models = sorted({info.model_id for info in self._infos.values()})
        return f"tgi {self._versions} with {', '.join(models)}" if models else "tgi"

    @property
    def _versions(self) -> str:
        return ", ".join(sorted({info.version for info in self._infos.values()}))

    @property
    def identity(self) -> tuple[str, str]:
        """What is served: revision and fingerprint."""
        return self.served_revision(), self.fingerprint

    def served_revision(self) -> str:
        """Return the weights' revision and TGI's versions, `b179c9 (tgi 3.3.6)`, whichever replica was asked first.

        Raises:
            ModelChangedError: the replicas serve different models.

        """
        if not self.known:
            served = sorted(f"{url} serves {_weights(info)}" for url, info in self._infos.items())
            raise ModelChangedError(
                f"{'; '.join(served)}: expected one model, on all replicas and during a run of {self._row.id}"
            )
        info = next(iter(self._infos.values()))
        return f"{self._row.revision or info.model_sha or _weights(info)} (tgi {self._versions})"

    def forget(self, replica: Replica) -> None:
        """Forget when a replica was asked: what comes back may be another."""
        self._asked_at.pop(replica.url, None)

    async def look_at(self, replicas: Iterable[Replica], *, away: bool = False) -> None:
        """Look at these replicas: those that can be asked, or with `away` all, so that one which cannot is an error."""
        since = time.monotonic()
        asked = list(replicas)
        looks = await asyncio.gather(*(self._look(replica, since) for replica in asked), return_exceptions=True)
        for replica, found in zip(asked, looks, strict=True):
            unasked = isinstance(found, BackendUnavailableError | BackendOverloadedError | BackendTimeoutError)
            if isinstance(found, BaseException) and (away or not unasked):
                raise found
            if unasked:
                # What it served before says nothing of what it will; it is checked before its first call.
                self._infos.pop(replica.url, None)

    async def info(self, replica: Replica) -> wire.Info:
        """Return what a replica serves, as seen lately.

        Raises:
            ModelChangedError: another model than before, or than the others.
            BackendError: another than the catalog states; it cannot be asked.

        """
        before = self._infos.get(replica.url)
        info = await self._look(replica, time.monotonic() - self._fresh_s)
        if before is not None and (_weights(before), before.version) != (_weights(info), info.version):
            raise ModelChangedError(
                f"{replica.url} serves {_weights(info)} (tgi {info.version}); {self._row.id} was {_weights(before)} "
                f"(tgi {before.version}) before"
            )
        self.served_revision()
        return info

    async def confirm(self, replicas: Iterable[Replica], before: tuple[str, str]) -> None:
        """Look at replicas after their answers; callers at one time share a look that began after all of these.

        Raises:
            ModelChangedError: what is served is no longer what it was before.
            BackendError: a replica cannot be asked.

        """
        since = time.monotonic()
        for replica in replicas:
            await self._look(replica, since)
        if (now := self.identity) != before:
            was, became = (", ".join(one) for one in (before, now))
            raise ModelChangedError(f"{self._row.id} was {was} when the call began; after its answers it is {became}")

    async def _look(self, replica: Replica, since: float) -> wire.Info:
        """Return what a replica serves, by a look that began after `since`."""
        url = replica.url
        async with self._looking.setdefault(url, asyncio.Lock()):
            if self._asked_at.get(url, float("-inf")) > since:
                return self._infos[url]
            began = time.monotonic()
            try:
                info, limit = await self._server.info_and_limit(replica)
                self._check_stated(info, replica)
                await self._check_adapter(info, replica)
            except BaseException:
                self._asked_at.pop(url, None)
                raise
            self._infos[url], self._asked_at[url] = info, began
            # An answer that was under way during a change has the old name; the look after it shows the change.
            self._models.add(info.model_id)
            self._server.names = replace(tgi_names(self._row.served_model, *self._models), statable=False)
            if limit:
                self._bound(replica, limit)
            return info

    def _check_stated(self, info: wire.Info, replica: Replica) -> None:
        stated = self._row.revision
        if stated and info.model_sha and stated != info.model_sha:
            raise BackendError(
                f"{replica.url} serves revision {info.model_sha} of {self._row.id}; the catalog states {stated}"
            )

    async def _check_adapter(self, info: wire.Info, replica: Replica) -> None:
        adapter = self._row.served_model
        if adapter in (wire.NO_ADAPTER, info.model_id) or self._adapted.get(replica.url) == info:
            return
        if not await self._server.run(replica, has_effect(adapter)):
            raise FailedPreconditionError(unknown(replica.url, self._row.id, adapter))
        self._adapted[replica.url] = info


def _weights(info: wire.Info) -> str:
    return f"{info.model_id}@{info.model_sha or 'unknown'}"
