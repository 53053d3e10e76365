"""The files of `deploy/`, as far as they can be checked without a container engine and a cluster."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from dagster import DagsterRun
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from matching_pipeline.components.placement import step_executor
from matching_pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
OF_OTHERS = {
    "DAGSTER_HOME",
    "CODE_LOCATION_HOST",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "POSTGRES_PASSWORD",
    "UI_USER",
    "UI_PASSWORD_HASH",
    "UI_PORT",
    "GALLERY_PORT",
}
CLUSTER = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
    "users": [{"name": "nobody", "user": {}}],
}
SETTINGS = {name.upper() for name in Settings.model_fields}


def test_the_image_is_pinned_runs_as_nobody_in_particular_and_says_whether_it_is_well() -> None:
    text = re.sub(r"\\\n|^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    build, final = text.split("\nFROM ")[-2:]
    assert re.match(r"python:3\.\d+\.\d+-slim-\w+\n", final)
    assert re.search(r"^FROM (\S+) AS build$", build, re.MULTILINE)
    assert re.search(r"^USER \d{4,}$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    for source in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for source in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        assert all(f"!{name}\n" in allowed for name in source.split())


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    declared: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return declared


def test_each_service_is_pinned_and_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    in_image = "HEALTHCHECK" in (DEPLOY / "Dockerfile").read_text()
    for name, service in services.items():
        assert re.search(r":\d[\w.-]+$", service["image"]), name
        assert "healthcheck" in service or ("build" in service and in_image), name
        needed = service.get("depends_on", {})
        assert set(needed) <= set(services)
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]


def test_compose_names_only_settings_and_commands_that_exist(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert set(service.get("environment", {})) <= SETTINGS | OF_OTHERS
        if "build" in service:
            assert shutil.which(service.get("command", ["dagster"])[0], path=str(BIN))
    used = set(re.findall(r"\$\{(\w+):\?\}", (DEPLOY / "compose.yaml").read_text()))
    listed = set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert used <= listed <= SETTINGS | OF_OTHERS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for file in (DEPLOY / "systemd").glob("matching-pipeline*"):
        # systemd wants the commands to exist
        (tmp_path / file.name).write_text(file.read_text().replace("/opt/matching-pipeline/bin", str(BIN)))
    units = sorted(tmp_path.iterdir())
    assert len(units) == 5
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^(\w+)=", (DEPLOY / "systemd" / "environment").read_text(), re.MULTILINE)
    assert set(listed) <= SETTINGS | OF_OTHERS


@pytest.fixture
def values() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())
    return read


def test_a_run_is_a_pod_with_the_code_locations_settings(values: dict[str, Any], tmp_path: Path) -> None:
    """By the code of dagster-k8s, from the two places that the chart takes it from."""
    config = values["runLauncher"]["config"]["k8sRunLauncher"]
    told = snake_case(config) | {"run_k8s_config": snake_case(config["runK8sConfig"])}
    told |= {"dagster_home": "/opt/dagster", "instance_config_map": "instance", "service_account_name": "dagster"}
    told |= {"postgres_password_secret": values["global"]["postgresqlSecretName"], "job_namespace": "default"}
    schema = DagsterK8sJobConfig.config_type_run_launcher()  # type: ignore[no-untyped-call]
    checked = process_config(resolve_to_config_type(schema), told)
    assert checked.success, checked.errors
    (location,) = values["dagster-user-deployments"]["deployments"]
    context = {
        "env": location["env"],
        "env_secrets": [secret["name"] for secret in location["envSecrets"]],
        "volumes": location["volumes"],
        "volume_mounts": location["volumeMounts"],
        "security_context": location["securityContext"],
    }
    # the launcher reads the address of a cluster, and asks it nothing
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(CLUSTER))
    elsewhere = {"load_incluster_config": False, "kubeconfig_file": str(tmp_path / "kubeconfig")}
    launcher = K8sRunLauncher(**{**(checked.value or {}), **elsewhere})
    image = f"{location['image']['repository']}:{location['image']['tag']}"
    code = ModuleCodePointer("matching_pipeline.definitions", "defs")
    origin = JobPythonOrigin(
        "worker", RepositoryPythonOrigin("python", code, image, container_context={"k8s": context})
    )
    merged = launcher.get_container_context_for_run(DagsterRun("worker", job_code_origin=origin))
    job = construct_dagster_k8s_job(
        merged.get_k8s_job_config(image, launcher),
        ["dagster", "api", "execute_run"],
        "worker",
        user_defined_k8s_config=merged.run_k8s_config,
    )
    pod = job.spec.template.spec
    (container,) = pod.containers
    assert container.image == image
    assert {each.name: each.value for each in container.env}["STEP_EXECUTOR"] == "kubernetes"
    assert "matching-pipeline" in [each.secret_ref.name for each in container.env_from if each.secret_ref]
    assert "/etc/matching-pipeline/defs/app" in [each.mount_path for each in container.volume_mounts]
    assert container.security_context.allow_privilege_escalation is False
    assert container.resources.limits == {"memory": "2Gi"}
    assert pod.security_context.run_as_non_root
    assert pod.termination_grace_period_seconds == 60


def snake_case(fields: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", key): value for key, value in fields.items()}


def test_one_setting_makes_each_shard_a_pod() -> None:
    assert step_executor(Settings(step_executor="kubernetes")).name == "k8s"


def test_kubernetes_knows_every_field(values: dict[str, Any]) -> None:
    for manifest in values["extraManifests"]:
        model = getattr(kubernetes.client, f"V1{manifest['kind']}")
        made = k8s_model_from_dict(model, k8s_snake_case_dict(model, manifest))
        assert made.metadata.name == "matching-pipeline-gallery"
    (location,) = values["dagster-user-deployments"]["deployments"]
    probe = {key: value for key, value in location["readinessProbe"].items() if key != "enabled"}
    checked = [
        (kubernetes.client.V1Probe, probe),
        (kubernetes.client.V1Probe, values["dagsterDaemon"]["livenessProbe"]),
    ]
    for part in (location, values["dagsterWebserver"], values["dagsterDaemon"]):
        checked.append((kubernetes.client.V1PodSecurityContext, part["podSecurityContext"]))
        checked.append((kubernetes.client.V1SecurityContext, part["securityContext"]))
        checked.append((kubernetes.client.V1ResourceRequirements, part["resources"]))
    for model, fields in checked:
        k8s_model_from_dict(model, k8s_snake_case_dict(model, fields))
    settings = {each["name"] for each in location["env"]}
    assert settings <= SETTINGS
