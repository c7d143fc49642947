import logging
import ssl

import pytest

from safescale.core.errors import InvalidInputError
from safescale.runtime.settings import Settings

pytest.importorskip("kafka")
from kafka import errors as kafka_errors

from safescale.runtime.bus.kafka_client import KafkaConnection, connection_of, consumer_group, forward_logs, unavailable


def settings(**values) -> Settings:
    return Settings(_env_file=None, **{"kafka": "one:9092, two:9093", **values})


def test_plain_settings_name_the_servers() -> None:
    connection = connection_of(settings())
    assert connection.servers == ("one:9092", "two:9093")
    assert connection.options()["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in connection.options()


def test_sasl_takes_the_password_from_its_file(tmp_path) -> None:
    (tmp_path / "password").write_text("pässword\n")
    connection = connection_of(
        settings(
            kafka_security="SASL_SSL", kafka_sasl="SCRAM-SHA-512", kafka_username="me",
            kafka_password_file=tmp_path / "password",
        )
    )  # fmt: skip
    options = connection.options()
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", "pässword")
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert options["ssl_context"].check_hostname
    assert "pässword" not in repr(connection)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kafka": ""}, "SAFESCALE_KAFKA is empty"),
        ({"kafka": "one"}, "'one'; expected host:port"),
        ({"kafka": "one:99999"}, "host:port"),
        ({"kafka_security": "SASL_SSL"}, "SAFESCALE_KAFKA_SASL is empty"),
        ({"kafka_sasl": "PLAIN"}, "SAFESCALE_KAFKA_SECURITY is PLAINTEXT"),
        ({"kafka_sasl": "PLAIN", "kafka_security": "SASL_SSL"}, "SAFESCALE_KAFKA_USERNAME is empty"),
        (
            {"kafka_sasl": "PLAIN", "kafka_security": "SASL_SSL", "kafka_username": "me"},
            "SAFESCALE_KAFKA_PASSWORD_FILE is empty",
        ),
        ({"kafka_security": "SSL", "kafka_ca_file": "/none"}, "SAFESCALE_KAFKA_CA_FILE /none"),
        ({"kafka_security": "SSL", "kafka_certificate_file": "/none"}, "SAFESCALE_KAFKA_CERTIFICATE_FILE /none"),
        ({"kafka_security": "SSL", "kafka_key_file": "/none"}, "SAFESCALE_KAFKA_CERTIFICATE_FILE is empty"),
    ],
)
def test_settings_that_do_not_go_together_are_named(values: dict, named: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        connection_of(settings(**values))
    assert named in raised.value.message


def test_a_file_that_is_no_certificate_is_named(tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InvalidInputError, match="expected certificates in PEM"):
        connection_of(settings(kafka_security="SSL", kafka_ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (kafka_errors.SaslAuthenticationFailedError("x"), "refused the credentials"),
        (kafka_errors.KafkaTimeoutError("x"), "no answer in time"),
        (kafka_errors.TopicAuthorizationFailedError({"t"}), "may not"),
        (kafka_errors.UnknownError("secret value"), "UnknownError"),
    ],
)
def test_an_error_of_the_client_is_told_without_its_text(error: Exception, told: str) -> None:
    message = unavailable(KafkaConnection(("h:1",)), error).message
    assert "h:1" in message
    assert told in message
    assert "secret" not in message


def test_each_topic_has_a_group_of_its_own() -> None:
    assert consumer_group("scoring", "safescale.generation.completed.v1") == "safescale.scoring.generation.completed.v1"


def test_the_clients_warnings_are_told_without_their_arguments(capsys) -> None:
    forward_logs()
    forward_logs()
    logging.getLogger("kafka.somewhere").warning("lost %s", "the secret")
    out = capsys.readouterr()
    lines = [line for line in (out.out + out.err).splitlines() if "lost" in line]
    assert len(lines) == 1
    assert "secret" not in lines[0]
