"""Options that have no effect beside others are refused by every command, in a line that names them and says
where they belong. They were ignored."""

from __future__ import annotations

import pytest

from server import cli
from server.arguments import parser, settings

REFUSED = {
    "serve --worker tcp://10.0.0.7:7070 --model helios --max-load 2": (
        "--model and --max-load have no effect with --worker tcp://: give them to `psistream worker`"
    ),
    "serve --worker tcp://10.0.0.7:7070 --h264 auto": "--h264 has no effect with --worker tcp://",
    "serve --worker tcp://10.0.0.7:7070 --spare on": "--spare has no effect with --worker tcp://: leave it",
    "serve --worker tcp://10.0.0.7:7070 --workers 1": "--workers has no effect with --worker tcp://",
    "serve --worker tcp://10.0.0.7:7070 --worker-ca ca.pem": "--worker-ca belongs to --worker tls://",
    "serve --worker thread --worker process": "--worker thread is for all workers: leave out the other",
    "serve --worker process --worker tcp://10.0.0.7:7070": "--worker process is for all workers",
    "serve --join tcp://127.0.0.1:1 --name g1 --backend fake": "--backend has no effect with --join: give it",
    "serve --join tcp://127.0.0.1:1 --name g1 --workers 1": "leave out --worker and --workers",
    "serve --whip-token x": "--whip-token belongs to --whip",
    "serve --mqtt off --node stage --mqtt-prefix a/b": (
        "--node and --mqtt-prefix have no effect with --mqtt off"
    ),
    "serve --mqtt mqtt://10.0.0.4 --mqtt-user a:b": (
        "--mqtt-user has no effect with a broker of your own: set it at the broker"
    ),
    "doctor --whip-token x": "--whip-token belongs to --whip",
    "worker --listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --join-ca c.pem": "--join-ca belongs to --join tls://",
    "cluster up --gpus-per-worker 1": "--gpus-per-worker belongs to --workers",
    "cluster up --start-limit 9 --namespace n": "--namespace and --start-limit belong to --workers",
    "cluster up --workers 1 --namespace n": "--namespace belongs to --ray",
    "cluster up --workers 1 --gpus-per-worker 0.5": "--gpus-per-worker must be 0 or 1 without --ray",
    "cluster status --ca c.pem": "--ca belongs to --directory tls://",
    "cluster ray --address 10.0.0.7 --head 10.0.0.5:6379 --port 7000": "--port has no effect with --head",
    "workers --timeout 3": "--timeout belongs to drain",
    "view http://127.0.0.1:1 --when now": "--when belongs to --prompt",
    "play http://127.0.0.1:1 --mqtt mqtt://127.0.0.1": "not both",
    "replay none.jsonl --scale 2": "--scale belongs to --out",
    "bench latency --session s --token t": "--session and --token belong to --url",
    "bench latency --pretend 1 --weights w": "--weights has no effect with --pretend",
    "bench soak --sessions 2": "--sessions belongs to --segments",
    "bench soak --segments 500 --minutes 2": "--minutes has no effect with --segments",
    "bench failover --workers 2 --spare on": "--spare has no effect with --workers above 1",
    "bench step --height 384": "--height belongs to --random",
    "bench step --model helios --random tiny --backend fake": "--backend has no effect with --random",
    "bench load --workers 1,2 --sessions 4": "--sessions has no effect with --workers",
    "bench chaos --weights w": "--weights belongs to --model",
    "evaluate --figures drift --journeys 2": "--journeys belongs to --figures recall",
    "train text --latents x": "--latents has no effect with the stage text",
    "train autoencoder --init x.pt": "--init has no effect with the stage autoencoder",
    "train wander --recipe wander": "--recipe has no effect with a whole recipe",
    "export onnx --out x --name n": "--name belongs to --run",
    "export onnx --out x --model helios --from y": "--from has no effect with --model",
    "export tensorrt --parse --level 3": "--level has no effect with --parse",
    "convert helios a b --seed 3": "--seed belongs to --memory",
}


@pytest.mark.parametrize(("words", "says"), REFUSED.items())
def test_an_option_without_effect_is_refused(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    shown = capsys.readouterr()
    assert says in shown.out + shown.err  # doctor reports on standard output
    assert (shown.out + shown.err).count("\n") <= 2


def test_what_the_environment_says_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be meant for other commands too."""
    monkeypatch.setenv("PSISTREAM_WHIP_TOKEN", "secret")
    monkeypatch.setenv("PSISTREAM_MQTT_USER", "a:b")
    assert settings(parser().parse_args(["--mqtt", "off"])).whip_token == "secret"


def test_codecs_are_the_gateways_too() -> None:
    given = ["--worker", "tcp://10.0.0.7:7070", "--codecs", "vp8"]
    assert settings(parser().parse_args(given)).worker.media.codecs == ("vp8",)
