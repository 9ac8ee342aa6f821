"""The Kubernetes manifests: valid objects, with options, ports, probes and names that this product has.

Nothing here has run in a cluster.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from clients.workers import parser as workers_parser
from server.arguments import parser as serve_parser
from server.arguments import settings
from server.cluster.command import parser as cluster_parser
from server.cluster.placement.on_ray.settings import environment
from server.cluster.placing import placing_of
from server.cluster.worker import parser as worker_parser
from server.worker.hosting.listen import listen_of
from tests.rigs.paths import ROOT

FOLDERS = sorted(path for path in (ROOT / "docs" / "kubernetes").iterdir() if path.is_dir())
RAY = ROOT / "docs" / "kubernetes" / "ray"


def objects(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, from the files that the kustomization lists."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]
    texts = [(folder / name).read_text("utf-8") for name in listed]
    return {
        (each["kind"], each["metadata"]["name"]): each
        for text in texts
        for each in yaml.safe_load_all(text)
        if each
    }


def workloads(folder: Path) -> list[dict[str, Any]]:
    return [each for (kind, _), each in objects(folder).items() if kind in ("Deployment", "StatefulSet")]


def ray_pods() -> dict[str, dict[str, Any]]:
    """The templates of Ray's pods, by their label."""
    spec = objects(RAY)["RayCluster", "psistream"]["spec"]
    templates = [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    return {each["metadata"]["labels"]["app"]: each for each in templates}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_all_ways_are_there() -> None:
    assert [folder.name for folder in FOLDERS] == ["hosts", "one-pod", "ray"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_objects_fit_the_schemas_of_kubernetes(folder: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for each in objects(folder).values():
        if each["kind"] == "RayCluster":  # KubeRay's schema is not here; that of its pods is
            for pod in ray_pods().values():
                named = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "pod", **pod["metadata"]}}
                validate.validate({**named, "spec": pod["spec"]}, "1.37", strict=True)
        else:
            validate.validate(each, "1.37", strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_selectors_ports_and_secrets_meet(folder: Path) -> None:
    found = objects(folder)
    pods = {
        each["spec"]["template"]["metadata"]["labels"]["app"]: container(each) for each in workloads(folder)
    }
    if folder == RAY:
        pods |= {app: pod["spec"]["containers"][-1] for app, pod in ray_pods().items()}
    for (kind, name), each in found.items():
        if kind == "Service":
            ports = {port["name"] for port in pods[each["spec"]["selector"]["app"]]["ports"]}
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
        if kind == "PodDisruptionBudget":
            assert each["spec"]["selector"]["matchLabels"]["app"] in pods
        if kind == "StatefulSet":
            assert each["spec"]["serviceName"] == name
            assert ("Service", name) in found
    for workload in workloads(folder):
        spec, one = workload["spec"]["template"]["spec"], container(workload)
        assert (
            workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
        )
        mounted = {mount["name"] for mount in one.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in spec.get("volumes", ())}
        ports = {port["name"] for port in one["ports"]}
        probes = [one[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in one]
        assert all((probe.get("httpGet") or probe["tcpSocket"])["port"] in ports for probe in probes)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_server_takes_its_options_and_listens_where_the_ports_say(folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "worker.key"
    key.write_text(secrets.token_hex(16), "utf-8")
    key.chmod(0o600)
    one = container(objects(folder)["Deployment", "psistream"])
    command, *told = [str(word).replace("/keys/worker.key", str(key)) for word in one["args"]]
    assert command == "serve"
    config = settings(serve_parser().parse_args([word for word in told if word != "--workers=auto"]))
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports == {"http": config.port, "ops": config.ops_port}
    assert config.ops_host == "0.0.0.0"  # the kubelet probes from outside the pod
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert one["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert config.udp_ports is not None
    assert config.udp_ports[1] - config.udp_ports[0] + 1 >= config.max_viewers


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_prometheus_finds_the_port_with_the_metrics(folder: Path) -> None:
    """The operator's schema is not part of Kubernetes, so only names are compared."""
    text = (ROOT / "docs" / "kubernetes" / "servicemonitor.yaml").read_text("utf-8")
    monitor = yaml.safe_load(text)["spec"]
    service = objects(folder)["Service", "psistream"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {each["port"] for each in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }


def test_workers_have_the_names_that_the_gateway_calls_and_that_their_hooks_drain() -> None:
    found = objects(ROOT / "docs" / "kubernetes" / "hosts")
    workers = found["StatefulSet", "psistream-worker"]
    called = re.findall(r"--worker=(\S+)", "\n".join(container(found["Deployment", "psistream"])["args"]))
    port = container(workers)["ports"][0]["containerPort"]
    assert called == [
        f"tcp://psistream-worker-{n}.psistream-worker:{port}" for n in range(workers["spec"]["replicas"])
    ]
    command, *told = container(workers)["args"]
    assert command == "worker"
    assert worker_parser().parse_args(told).listen == f"0.0.0.0:{port}"
    for hook, what in (("postStart", "take-back"), ("preStop", "drain")):
        text = container(workers)["lifecycle"][hook]["exec"]["command"][-1]
        (line,) = re.findall(r"psistream workers (.*?)(?:;|$)", text)
        args = workers_parser().parse_args(line.replace("w$((${POD##*-} + 1))", "w3").split())
        assert (args.what, args.id, args.url) == (what, "w3", "http://psistream")
        if what == "drain":
            assert args.timeout < workers["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_rays_pods_have_probes_that_need_no_dashboard() -> None:
    """KubeRay gives a pod without probes some that ask Ray's dashboard, which does not run there."""
    for pod in ray_pods().values():
        ray = next(each for each in pod["spec"]["containers"] if each["name"].startswith("ray-"))
        for kind in ("readinessProbe", "livenessProbe"):
            command = ray[kind]["exec"]["command"]
            # tests/repository/test_image.py runs both in the image
            assert command in (
                ["ray", "health-check", "--address=127.0.0.1:6379"],
                ["sh", "-c", "grep -qsx raylet /proc/[0-9]*/comm"],
            )


def test_ray_is_started_as_placement_needs_it_and_its_workers_join_the_directory(tmp_path: Path) -> None:
    settings_of = yaml.safe_load((RAY / "kustomization.yaml").read_text("utf-8"))["configMapGenerator"]
    (literals,) = (each["literals"] for each in settings_of if each["name"] == "psistream-ray")
    assert dict(each.split("=") for each in literals) == environment()
    cluster = objects(RAY)["RayCluster", "psistream"]["spec"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    assert cluster["rayVersion"] == pins["ray"]
    _, directory = ray_pods()["psistream-directory"]["spec"]["containers"]
    key = tmp_path / "worker.key"
    key.write_text(secrets.token_hex(16), "utf-8")
    command, *told = [word.replace("/keys/worker.key", str(key)) for word in directory["args"]]
    assert command == "cluster"
    args, others = cluster_parser().parse_known_args(told)
    placing = placing_of(args, listen_of(args), others)
    assert placing is not None
    assert placing.workers == sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    (gateway,) = (
        each for each in container(objects(RAY)["Deployment", "psistream"])["args"] if "--join=" in each
    )
    assert gateway == f"--join=tcp://{placing.advertise}"
    (worker,) = ray_pods()["psistream-worker"]["spec"]["containers"]
    (line,) = re.findall("psistream cluster (.*)", worker["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = cluster_parser().parse_args(line.split())
    assert (drain.what, drain.directory) == ("drain", f"tcp://{placing.advertise}")
    assert drain.timeout < ray_pods()["psistream-worker"]["spec"]["terminationGracePeriodSeconds"]
