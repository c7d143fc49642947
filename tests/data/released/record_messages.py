"""Run a command of a released version, and write down each message that its services publish.

python record_messages.py FILE ARGUMENTS...: FILE gets a line of JSON for each message. Runs under the released code.
"""

import base64
import json
import sys

from safescale.cli.main import main
from safescale.runtime.bus.memory import MemoryBus


def append(path: str, message) -> None:
    """Append a message to a file, so that a process that is killed leaves what it has published."""
    line = {
        "topic": message.topic, "key": message.key, "headers": dict(message.headers),
        "value": base64.b64encode(message.value).decode(),
    }  # fmt: skip
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def record(path: str) -> None:
    """Write what the bus in memory is given to a file from now on."""
    publish = MemoryBus.publish

    async def recorded(bus, message) -> None:
        append(path, message)
        await publish(bus, message)

    MemoryBus.publish = recorded


if __name__ == "__main__":
    record(sys.argv.pop(1))
    main()
