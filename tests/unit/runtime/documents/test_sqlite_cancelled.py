import asyncio

from safescale.runtime.documents.port import NewDocument
from safescale.runtime.documents.sqlite import SqliteDocuments


async def test_a_cancelled_write_leaves_no_transaction_open(tmp_path) -> None:
    documents = await SqliteDocuments.open(tmp_path / "records.db")
    try:
        for turns in range(12):
            write = asyncio.create_task(documents.put_if_absent(NewDocument("audit", f"cut-{turns}", {})))
            for _ in range(turns):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
            assert await documents.put_if_absent(NewDocument("audit", f"after-{turns}", {}))
    finally:
        await documents.close()
