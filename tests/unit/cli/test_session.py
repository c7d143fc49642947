import asyncio
from pathlib import Path

import pytest

from safescale.app.host import Host, HostOptions
from safescale.cli import session as sessions
from safescale.cli.session import Client, session
from safescale.core.errors import FailedPreconditionError, ServiceUnavailableError
from safescale.runtime.files.data_folder import DataDir, Use
from safescale.runtime.settings import Settings


@pytest.mark.parametrize("address", ["", "127.0.0.1:9"])
async def test_a_holder_that_does_not_answer_is_told_and_given_up(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sessions, "STARTING_S", 0.5)
    monkeypatch.setattr(sessions, "REPORTED_S", 0.0)
    monkeypatch.setattr(sessions, "CONNECT_S", 0.3)
    with DataDir(tmp_path) as data:
        data.announce(address)
        with pytest.raises(FailedPreconditionError, match="process, which has not answered"):
            async with session(Settings(data_dir=tmp_path)):
                pass
    assert "Waiting for the safescale process that holds the data folder" in capsys.readouterr().err


async def test_a_command_waits_for_a_folder_that_is_given_back(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.try_hold()
    asyncio.get_running_loop().call_later(0.3, data.__exit__, None, None, None)
    async with session(Settings(data_dir=tmp_path)) as client:
        assert client.embedded


async def test_a_guest_is_served_until_its_end_and_the_host_until_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path)
    done: list[str] = []

    async def host() -> None:
        async with session(settings):
            hosted.set()
            await joined.wait()
        done.append("host")

    hosted, joined = asyncio.Event(), asyncio.Event()
    hosting = asyncio.create_task(host())
    await hosted.wait()
    async with session(settings) as client:
        assert client.guest
        joined.set()
        await asyncio.sleep(3 * sessions.LOOK_S)
        assert done == []
        done.append("guest")
    await hosting
    assert done == ["guest", "host"]
    assert "Serving 1 other command on" in capsys.readouterr().err


async def test_work_is_done_again_at_the_next_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data_dir=tmp_path)
    first = Client(settings)
    await first.attach()
    async with session(settings) as client:
        tries: list[str] = []

        async def work() -> str:
            tries.append(client.address)
            if len(tries) == 1:
                await first.close()
                raise ServiceUnavailableError("gone")
            return "done"

        assert await client.lasting(work) == "done"
        assert client.embedded
        assert tries == [first.address, client.address]
    assert "has ended; it goes on here." in capsys.readouterr().err


async def test_a_command_whose_server_ended_says_so(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    first = Client(settings)
    await first.attach()

    async def command() -> None:
        async with session(settings):
            await first.close()
            raise ServiceUnavailableError("service not reachable: connection refused")

    with pytest.raises(ServiceUnavailableError, match="has ended; give the same command again"):
        await command()


async def test_who_uses_a_folder_and_is_done_holds_up_nobody(tmp_path: Path) -> None:
    use = Use(tmp_path)
    tmp_path.joinpath("users").mkdir()
    async with session(Settings(data_dir=tmp_path)):
        use.begin()
        use.end()


async def test_a_server_may_be_started_again_before_a_command_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, options = Settings(data_dir=tmp_path), HostOptions(resume_on_start=True)
    client = Client(settings)
    try:
        async with Host(settings, options) as server:
            await client.attach()
            assert client.address == server.address
        renewing = asyncio.create_task(client.renew())
        await asyncio.sleep(5 * sessions.LOOK_S)
        assert not renewing.done()
        async with Host(settings, options) as again:
            await renewing
            assert (client.address, client.embedded) == (again.address, False)
        monkeypatch.setattr(client, "_leave_s", 0.3)
        await client.renew()
        assert client.embedded
    finally:
        await client.close()
