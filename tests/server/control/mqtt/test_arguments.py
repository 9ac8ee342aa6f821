"""The MQTT options of `psistream serve`: settings, or a one-line error."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from server.config import MqttListen, MqttOptions
from server.control.mqtt.arguments import add_arguments, options_of
from tests.rigs.control.network import self_signed


def options(*words: str) -> MqttOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_of(parser.parse_args(words))


def test_omitted_options_have_the_default_settings() -> None:
    assert options() == MqttOptions()


def test_settings_come_from_options(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    words = "--node a.b --mqtt-prefix home/video --mqtt-listen [::]:0 --mqtt-websockets off --mqtt-user g:p:w"
    made = options(*words.split(), "--mqtt-tls", str(certificate), str(key))
    listen = MqttListen("::", 0, None, (certificate, key), ("g", "p:w"))
    assert made == MqttOptions("a.b", "home/video", listen=listen)
    assert "p:w" not in repr(made)


def test_the_password_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSISTREAM_MQTT_USER", "g:pw")
    assert options().listen.user == ("g", "pw")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--node a/b", "--node must be"),
        ("--mqtt-prefix a/#", "--mqtt-prefix must be"),
        ("--mqtt-listen 1883", "--mqtt-listen must look like"),
        ("--mqtt-listen 127.0.0.1:x", "--mqtt-listen must look like"),
        ("--mqtt-websockets on", "--mqtt-websockets must be"),
        ("--mqtt-user game", "--mqtt-user must look like"),
        ("--mqtt-listen 0.0.0.0:1883", "lets others in: give --mqtt-user"),
        ("--mqtt-tls no-file no-file", "--mqtt-tls: cannot read no-file: No such file"),
        (f"--mqtt-tls {__file__} {__file__}", "must be a certificate and its key in PEM form"),
    ],
)
def test_an_invalid_option_is_reported(words: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        options(*words.split())
