"""SASL PLAIN and SCRAM, TLS and client certificates against a broker that asks for them."""

import asyncio
from pathlib import Path

import pytest
from tests.support.kafka_broker import Broker, broker, make_certificates
from tests.support.kafka_topics import QUICK, some_topics

from safescale.core.errors import BusUnavailableError
from safescale.runtime.bus import kafka as kafka_module
from safescale.runtime.bus.kafka import KafkaBus
from safescale.runtime.bus.kafka_client import KafkaConnection, connection_of, open_admin
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

pytestmark = [pytest.mark.grid, pytest.mark.timeout(300)]

PASSWORD = "correct horse"
JAAS = "org.apache.kafka.common.security"
LISTENERS = {"SASL": "SASL_PLAINTEXT", "BOTH": "SASL_SSL", "MUTUAL": "SSL"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kafka")
    make_certificates(folder)
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong").write_text("wrong\n")
    return folder


@pytest.fixture(scope="module")
def secured(files: Path):
    env = {
        "KAFKA_SASL_ENABLED_MECHANISMS": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_SSL_KEYSTORE_LOCATION": "/files/server.pem",
        "KAFKA_SSL_TRUSTSTORE_TYPE": "PEM",
        "KAFKA_SSL_TRUSTSTORE_LOCATION": "/files/ca.pem",
        "KAFKA_LISTENER_NAME_MUTUAL_SSL_CLIENT_AUTH": "required",
    }
    for name in ("SASL", "BOTH"):
        env[f"KAFKA_LISTENER_NAME_{name}_PLAIN_SASL_JAAS_CONFIG"] = (
            f'{JAAS}.plain.PlainLoginModule required user_plain="{PASSWORD}";'
        )
        for number in (256, 512):
            key = f"KAFKA_LISTENER_NAME_{name}_SCRAM___SHA___{number}_SASL_JAAS_CONFIG"
            env[key] = f"{JAAS}.scram.ScramLoginModule required;"
    with broker(LISTENERS, env, files) as started:
        admin = open_admin(KafkaConnection((started.address,)))
        from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

        for number in (256, 512):
            credential = UserScramCredentialUpsertion("scram", ScramMechanism[f"SCRAM_SHA_{number}"], PASSWORD)
            assert admin.alter_user_scram_credentials([credential]) == {"scram": None}
        admin.close()
        yield started


def settings_of(secured: Broker, files: Path, listener: str, **more) -> Settings:
    protocol = {"OPEN": "PLAINTEXT", **LISTENERS}[listener]
    values = {"kafka": secured.addresses[listener], "kafka_security": protocol}
    if protocol.endswith("SSL"):
        values["kafka_ca_file"] = files / "ca.pem"
    if protocol.startswith("SASL"):
        values["kafka_password_file"] = files / "password"
    return Settings(_env_file=None, **{**values, **more})


WAYS = {
    "plain": ("SASL", {"kafka_sasl": "PLAIN", "kafka_username": "plain"}),
    "scram 256": ("SASL", {"kafka_sasl": "SCRAM-SHA-256", "kafka_username": "scram"}),
    "scram 512 over tls": ("BOTH", {"kafka_sasl": "SCRAM-SHA-512", "kafka_username": "scram"}),
    "plain over tls": ("BOTH", {"kafka_sasl": "PLAIN", "kafka_username": "plain"}),
    "client certificate": ("MUTUAL", {}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_messages_pass(secured: Broker, files: Path, way: str) -> None:
    listener, more = WAYS[way]
    if listener == "MUTUAL":
        more = {"kafka_certificate_file": files / "client.pem", "kafka_key_file": files / "client.key"}
    seen: list[str] = []
    done = asyncio.Event()

    async def handle(message: Message) -> None:
        seen.append(message.key)
        done.set()

    with some_topics(secured.address, 1) as (topic,):
        bus = KafkaBus(connection_of(settings_of(secured, files, listener, **more)), Telemetry(), "a", QUICK)
        await bus.ping()
        await bus.publish(Message(topic, "k", b"v"))
        await bus.subscribe(topic, "g", handle, SubscriptionOptions())
        await asyncio.wait_for(done.wait(), 60)
        await bus.close()
    assert seen == ["k"]


REFUSED = {
    "wrong password": ("SASL", {"kafka_sasl": "PLAIN", "kafka_username": "plain"}, "wrong", "refused the credentials"),
    "wrong scram password": (
        "SASL",
        {"kafka_sasl": "SCRAM-SHA-256", "kafka_username": "scram"},
        "wrong",
        "credentials",
    ),
    "no client certificate": ("MUTUAL", {}, "", "the certificate"),
}


@pytest.mark.parametrize("way", REFUSED)
async def test_who_is_refused_is_told(secured: Broker, files: Path, way: str, monkeypatch) -> None:
    listener, more, password, expected = REFUSED[way]
    if password:
        more = {**more, "kafka_password_file": files / password}
    monkeypatch.setattr(kafka_module, "TOPIC_WAIT_S", 0.5)
    monkeypatch.setattr(kafka_module, "PING_S", 30.0)
    bus = KafkaBus(connection_of(settings_of(secured, files, listener, **more)), Telemetry(), "a", QUICK)
    with pytest.raises(BusUnavailableError, match=expected):
        await bus.ping()
    with pytest.raises(BusUnavailableError, match=expected):
        await bus.publish(Message("t", "k", b""))
    await bus.close()


async def test_a_server_of_another_ca_is_refused(secured: Broker, files: Path, monkeypatch) -> None:
    monkeypatch.setattr(kafka_module, "PING_S", 30.0)
    settings = settings_of(secured, files, "MUTUAL", kafka_ca_file=None)
    bus = KafkaBus(connection_of(settings), Telemetry(), "a", QUICK)
    with pytest.raises(BusUnavailableError):
        await bus.ping()
    await bus.close()
