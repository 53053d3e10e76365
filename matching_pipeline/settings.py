"""The settings. Each is an environment variable or a line in `.env`, named as the field in capitals."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matching_pipeline.database_url import libpq_url

SAMPLE_PICTURES: Final = Path(__file__).resolve().parent / "sample_data" / "pictures"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    database_url: str | None = Field(
        None, description="The pipeline works on this Postgres; if unset, on an embedded one."
    )
    dagster_postgres_url: str | None = Field(None, description="Dagster keeps its own tables in this database.")
    data_dir: Path = Field(Path(".data"), description="The pipeline keeps its own files in this folder.")

    definitions_dir: Path | None = Field(
        None, description="Declarations are read from this folder; if unset, from `defs`."
    )
    sample_data: bool = Field(False, description="Where there are no declarations, those of the examples are used.")

    image_analyzer: Literal["openai", "local"] | None = Field(None, description="This provider analyses images.")
    image_generator: Literal["openai", "local"] | None = Field(None, description="This provider makes pictures.")
    image_file_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="The pipeline may read file:// images below these folders, which ':' separates."
    )
    image_allow_private_hosts: bool = Field(False, description="The pipeline fetches from private addresses too.")
    image_timeout_seconds: float = Field(30, gt=0, description="One fetch, with its redirects, may take this long.")
    image_max_bytes: int = Field(64 * 2**20, gt=0, description="A larger file is refused.")
    image_memory_bytes: int = Field(
        512 * 2**20, gt=0, description="Decoding takes this much memory at most, of all threads together."
    )
    image_base_url: str | None = Field(None, description="A path that an app stores for a picture follows this URL.")
    image_user_agent: str = Field(
        "Mozilla/5.0 (compatible; matching-pipeline)", description="Requests for pictures have this User-Agent."
    )
    image_max_redirects: int = Field(5, ge=0, description="One fetch follows this many redirects at most.")
    image_concurrency: int = Field(8, gt=0, description="A worker fetches this many images at once.")
    image_host_concurrency: int = Field(6, gt=0, description="It fetches this many at once from one host.")
    image_look_again_days: float | None = Field(
        None, gt=0, description="A picture is fetched again when it was last fetched so long ago."
    )

    text_embedder: Literal["openai", "local"] | None = Field(None, description="This provider embeds texts.")
    openai_api_key: SecretStr | None = Field(None, description="If it is set, `openai` is the provider by default.")
    openai_base_url: str | None = Field(None, description="This is another server that speaks OpenAI's protocol.")
    openai_embedding_model: str = Field("text-embedding-3-small", description="This model embeds texts.")
    openai_embedding_dimensions: int = Field(1536, gt=0, description="Its embeddings have this many dimensions.")
    openai_embedding_max_tokens: int = Field(8192, gt=0, description="A text with more tokens is cut.")
    openai_embedding_usd_per_million_tokens: float = Field(0.02, ge=0, description="Its input costs this much.")
    openai_vision_model: str = Field("gpt-6-luna", description="This model describes pictures.")
    openai_vision_reasoning_effort: str = Field(
        "none", description="It reasons this much before it answers. With `unsaid` the server decides."
    )
    openai_vision_input_usd_per_million_tokens: float = Field(0.1, ge=0, description="Its input costs this much.")
    openai_vision_output_usd_per_million_tokens: float = Field(0.5, ge=0, description="Its output costs this much.")
    openai_image_model: str = Field("gpt-image-2.6-sunburst", description="This model makes product pictures.")
    openai_image_quality: str = Field("medium", description="The request states this quality, unless it is `unsaid`.")
    openai_image_input_usd_per_million_tokens: float = Field(8, ge=0, description="Its input costs this much.")
    openai_image_output_usd_per_million_tokens: float = Field(30, ge=0, description="Its output costs this much.")
    openai_image_timeout_seconds: float = Field(
        300, gt=0, description="A silent request for a picture is given up after this long."
    )
    openai_timeout_seconds: float = Field(
        60, gt=0, description="Any other silent request is given up after this long."
    )
    openai_concurrency: int = Field(8, gt=0, description="A process makes this many requests at once.")
    ai_daily_budget_usd: Decimal | None = Field(
        None, ge=0, description="Work waits for the next day (UTC) when a day's requests have cost this much."
    )
    generated_images_url: str | None = Field(
        None, description="Generated pictures are written below this URL: file:///folder, s3://bucket, …"
    )

    gallery_password: SecretStr | None = Field(
        None, description="The gallery asks for this password. Without it, it serves this machine only."
    )
    gallery_user_header: str | None = Field(
        None, description="A proxy before the gallery names the user in this header; only the proxy may reach it."
    )
    gallery_url: str | None = Field(None, description="The metadata of each asset links to the gallery at this URL.")

    enqueue_notify: bool = Field(
        True, description="Enqueuing wakes the workers by NOTIFY; if false, they look for jobs every 0.1 s."
    )
    worker_seconds: float = Field(3600, gt=0, description="Another worker relieves a standing worker of this age.")
    max_workers: int = Field(2, gt=0, description="At most this many standing workers run at once.")
    keep_completed_jobs_days: float = Field(7, ge=0, description="Completed jobs are kept this long.")
    keep_ai_answers_days: float = Field(7, ge=0, description="Answers of providers are kept this long.")
    keep_ai_calls_days: float = Field(90, ge=0, description="The call log keeps a request this long.")
    keep_dagster_runs_days: float = Field(30, ge=0, description="Finished Dagster runs are kept this long.")
    match_part_images: int = Field(
        100_000,
        gt=0,
        description="The matcher holds this many images at once, and as many between jobs: "
        "200 MB if they have 512 dimensions.",
    )
    nightly_hour_utc: int = Field(3, ge=0, le=23, description="The nightly job starts at this hour.")

    @property
    def pictures_url(self) -> str:
        """Where generated pictures are written. Each database has a folder of its own by default, as `cleanup`
        deletes the pictures that its database does not name."""
        if self.generated_images_url:
            return self.generated_images_url
        from psycopg.conninfo import conninfo_to_dict

        database = conninfo_to_dict(self.database_url or "")
        host = str(database.get("host") or "")
        # the folder of a socket can change at each start
        server = f"{host}_" if host and not host.startswith("/") else ""
        name = f"{server}{database.get('dbname') or 'postgres'}"
        return (self.data_dir.resolve() / "generated_pictures" / name).as_uri()

    @property
    def readable_folders(self) -> tuple[Path, ...]:
        """The folders of IMAGE_FILE_ROOTS, the demo's pictures, and the pictures that the pipeline makes."""
        made = urlsplit(self.pictures_url)
        pictures = (Path(unquote(made.path)),) if made.scheme == "file" else ()
        return (*self.image_file_roots, SAMPLE_PICTURES, *pictures)

    @field_validator("database_url")
    @classmethod
    def _read_database_url(cls, value: str | None) -> str | None:
        return value and libpq_url(value)

    @field_validator("image_file_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value
