"""Makes .venv with what `constraints.txt` pins: by uv, which comes from pip, and by pip alone where uv fails.

Run by the Python that the environment is made from. It needs nothing but that Python.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ".venv/bin"
WANTED = ("--quiet", "--constraint", "constraints.txt", "--editable")

AS_UV_CALLS_IT = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
"""The settings of pip that uv does not read by itself."""


def main(project: str) -> None:
    """Installs the project `.`, or with an extra such as `.[dev]`."""
    os.chdir(ROOT)
    say("making .venv")
    subprocess.run([sys.executable, "-m", "venv", ".venv"], check=True)
    if not install_by_uv(project):
        say("uv cannot install it here: pip does, which takes longer")
        subprocess.run([f"{BIN}/pip", "install", *WANTED, project], check=True)


def install_by_uv(project: str) -> bool:
    """Installs with compiled bytecode: otherwise each process of the first start compiles the same modules."""
    say("installing uv")
    if subprocess.run([f"{BIN}/pip", "install", "--quiet", "--constraint", "constraints.txt", "uv"]).returncode:
        return False
    say("installing what constraints.txt pins")
    command = [f"{BIN}/uv", "pip", "install", "--python", f"{BIN}/python", "--compile-bytecode", *WANTED, project]
    # pip takes the best version of all indexes
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **as_uv_calls_it(pip_settings())}
    return subprocess.run(command, env={**environment, **os.environ}).returncode == 0


def pip_settings() -> dict[str, str]:
    """What pip's files and environment say, by name. An environment variable overrules a file, as it comes last."""
    done = subprocess.run([f"{BIN}/pip", "config", "list"], capture_output=True, text=True)
    return parsed(done.stdout)


def as_uv_calls_it(settings: dict[str, str]) -> dict[str, str]:
    known = {AS_UV_CALLS_IT[name]: value for name, value in settings.items() if name in AS_UV_CALLS_IT and value}
    if "UV_FIND_LINKS" in known:
        known["UV_FIND_LINKS"] = ",".join(known["UV_FIND_LINKS"].split())
    return known


def parsed(listed: str) -> dict[str, str]:
    """From lines such as `global.index-url='https://example.org/simple'`."""
    lines = [line.partition("=") for line in listed.splitlines()]
    lines.sort(key=lambda parts: parts[0].startswith(":env:"))
    return {name.rpartition(".")[2]: value.strip("'").replace("\\n", " ").strip() for name, _, value in lines}


def say(message: str) -> None:
    print(f"install: {message} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
