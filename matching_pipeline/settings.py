"""Every setting of the product: an environment variable or a line in `.env`, by the field's name in capitals."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SAMPLE_PICTURES: Final = Path(__file__).resolve().parent / "sample_data" / "pictures"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    database_url: str | None = Field(None, description="Postgres with pgvector; an embedded one where it is not set")
    dagster_postgres_url: str | None = Field(None, description="Dagster's own tables, if not in the same database")
    data_dir: Path = Field(Path(".data"), description="embedded database, Dagster's files, made pictures")

    image_analyzer: Literal["openai", "local"] | None = Field(None, description="who analyses images")
    image_generator: Literal["openai", "local"] | None = Field(None, description="who makes product pictures")
    image_file_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders below which file:// images may be read, separated by ':'"
    )
    image_allow_private_hosts: bool = Field(False, description="fetch from private and loopback addresses too")
    image_timeout_seconds: float = Field(30, gt=0, description="for one fetch, redirects and body included")
    image_max_bytes: int = Field(20 * 2**20, gt=0, description="a larger file is refused")
    image_max_pixels: int = Field(40_000_000, gt=0, description="a larger picture is refused before it is decoded")
    image_max_redirects: int = Field(5, ge=0, description="redirects followed for one image")
    image_concurrency: int = Field(8, gt=0, description="images fetched and analysed at once by one drain")

    text_embedder: Literal["openai", "local"] | None = Field(None, description="who embeds texts")
    openai_api_key: SecretStr | None = Field(None, description="with it, `openai` is the provider by default")
    openai_base_url: str | None = Field(None, description="another server that speaks OpenAI's protocol")
    openai_embedding_model: str = Field("text-embedding-3-small", description="gives embeddings")
    openai_embedding_dimensions: int = Field(1536, gt=0, description="of its embeddings")
    openai_embedding_max_tokens: int = Field(8192, gt=0, description="it takes of one text; a longer one is cut")
    openai_embedding_price: float = Field(0.02, ge=0, description="USD for a million tokens")
    openai_vision_model: str = Field("gpt-6-luna", description="describes pictures")
    openai_vision_effort: str = Field("none", description="how much it reasons; `unsaid` leaves it to the server")
    openai_vision_input_price: float = Field(0.1, ge=0, description="USD for a million tokens")
    openai_vision_output_price: float = Field(0.5, ge=0, description="USD for a million tokens")
    openai_image_model: str = Field("gpt-image-2.6-sunburst", description="makes product pictures")
    openai_image_quality: str = Field("medium", description="of those; `unsaid` leaves it to the server")
    openai_image_input_price: float = Field(8, ge=0, description="USD for a million tokens")
    openai_image_output_price: float = Field(30, ge=0, description="USD for a million tokens")
    openai_image_timeout_seconds: float = Field(
        300, gt=0, description="as OPENAI_TIMEOUT_SECONDS, for a picture: one that is given up is paid for"
    )
    openai_timeout_seconds: float = Field(60, gt=0, description="without a byte of an answer")
    openai_concurrency: int = Field(8, gt=0, description="requests at once by one process")
    ai_daily_budget_usd: Decimal | None = Field(
        None, ge=0, description="when it is spent, work waits for the next day"
    )
    images_url: str | None = Field(None, description="where generated pictures go: file:///folder, s3://bucket, …")

    linger_seconds: float = Field(60, ge=0, description="how long an idle run waits for more work before it ends")
    drain_seconds: float = Field(1800, gt=0, description="a run that is busy for longer makes way for a new one")
    max_runs: int = Field(2, gt=0, description="drains of one lane alive at once")
    sensor_wait_seconds: float = Field(20, ge=0, le=50, description="how long a sensor's tick listens for new rows")
    keep_completed_days: float = Field(7, ge=0, description="completed queue rows are kept this long")
    keep_answers_days: float = Field(
        7, ge=0, description="providers' answers are kept this long, against asking twice"
    )
    keep_calls_days: float = Field(90, ge=0, description="the records of requests to providers are kept this long")
    keep_runs_days: float = Field(30, ge=0, description="finished Dagster runs are kept this long")
    match_part_images: int = Field(
        100_000, gt=0, description="images held at once to match others with: 200 MB where they have 512 dimensions"
    )
    nightly_hour: int = Field(3, ge=0, le=23, description="when the nightly job starts, UTC")

    @property
    def pictures_url(self) -> str:
        """Where generated pictures are written to: by default to a folder of the database's own, as `cleanup` deletes
        what its database does not name."""
        if self.images_url:
            return self.images_url
        from psycopg.conninfo import conninfo_to_dict

        database = conninfo_to_dict(self.database_url or "")
        host = str(database.get("host") or "")
        # a socket's folder may be another each time
        server = f"{host}_" if host and not host.startswith("/") else ""
        name = f"{server}{database.get('dbname') or 'postgres'}"
        return (self.data_dir.resolve() / "generated_pictures" / name).as_uri()

    @property
    def readable_folders(self) -> tuple[Path, ...]:
        """The folders of IMAGE_FILE_ROOTS, the demo's pictures, and the pictures that the pipeline makes."""
        made = urlsplit(self.pictures_url)
        pictures = (Path(unquote(made.path)),) if made.scheme == "file" else ()
        return (*self.image_file_roots, SAMPLE_PICTURES, *pictures)

    @field_validator("image_file_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value
