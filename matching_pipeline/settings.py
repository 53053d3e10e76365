"""The settings. Each is an environment variable or a line in `.env`, named as the field in capitals."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matching_pipeline.database_url import libpq_url

SAMPLE_PICTURES: Final = Path(__file__).resolve().parent / "sample_data" / "pictures"

TextChoice = Annotated[str, Field(pattern=r"^(local|openai(:\S+)?|fastembed:\S+)(@float16)?$")]
ImageChoice = Annotated[
    str, Field(pattern=r"^(local|openai(:\S+)?|fastembed:\S+|multimodal:\S+:[1-9]\d{0,4})(@float16)?$")
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", use_attribute_docstrings=True
    )

    database_url: str | None = None
    """The pipeline works on this Postgres with pgvector. Without it the pipeline starts an embedded
    one."""
    dagster_postgres_url: str | None = None
    """Dagster keeps its own tables in this database: `postgresql+psycopg2://…`. Without it they are in the schema
    `dagster` of DATABASE_URL."""
    data_dir: Path = Path(".data")
    """This folder holds the embedded database, Dagster's files, and generated pictures."""

    definitions_dir: Path | None = None
    """Declarations are read from this folder, `defs` by default. If it is missing, the embedded database has those of
    the examples."""
    sample_data: bool = False
    """If there are no declarations, those of the examples are used with `DATABASE_URL` too."""

    image_model: ImageChoice | None = None
    """This model analyses pictures: the first model, and the model that `model add` takes. It is `local`, `openai`,
    `openai:NAME`, `fastembed:NAME` or `multimodal:NAME:DIMENSIONS`; by default `openai` with a key, or `local`.
    With `@float16` after it the vectors take half the space."""
    multimodal_input: Literal["messages", "objects", "modality"] = "messages"
    """The server of `multimodal:NAME:DIMENSIONS` takes a picture in this form: `messages` (vLLM), `objects` (Jina) or
    `modality` (Infinity)."""
    image_generator: Literal["openai", "local"] | None = None
    """This provider makes product pictures. By default it is `openai` with a key, or `local`."""
    image_file_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """The pipeline may read `file://` images below these folders, which `:` separates."""
    image_allow_private_hosts: bool = False
    """The pipeline fetches from private, loopback and link-local addresses too."""
    image_timeout_seconds: float = Field(30, gt=0)
    """One fetch, with its redirects, may take this long."""
    image_max_bytes: int = Field(64 * 2**20, gt=0)
    """A larger file is refused. A worker holds the files of a batch, 16 or more, beside
    `IMAGE_MEMORY_BYTES`."""
    image_memory_bytes: int = Field(512 * 2**20, gt=0)
    """Decoding takes this much memory at most, of all threads together. A picture that alone takes more is
    refused."""
    image_base_url: str | None = None
    """A path that an app stores for a picture, such as `bucket/a.jpg`, follows this URL."""
    image_user_agent: str = "Mozilla/5.0 (compatible; matching-pipeline)"
    """Requests for pictures have this User-Agent: some hosts answer 403 to one that they do not know."""
    image_max_redirects: int = Field(5, ge=0)
    """One fetch follows this many redirects at most."""
    image_concurrency: int = Field(8, gt=0)
    """A worker fetches this many images at once."""
    image_host_concurrency: int = Field(6, gt=0)
    """It fetches this many at once from one host."""
    image_look_again_days: float | None = Field(None, gt=0)
    """A picture is fetched again when it was last fetched so long ago, within the hour. A host that gives an
    ETag or a date is only asked whether it changed."""

    text_model: TextChoice | None = None
    """This model embeds texts: the first model, and the model that `model add` takes. It is `local`, `openai`,
    `openai:NAME` or `fastembed:NAME`; by default `openai` with a key, or `local`. With `@float16` after it the
    vectors take half the space."""
    fastembed_folder: Path | None = None
    """The weights of `fastembed:NAME` are read from `NAME` below this folder. Without it fastembed fetches them."""
    openai_api_key: SecretStr | None = None
    """The provider's key. A compatible server that needs none takes any word."""
    openai_base_url: str | None = None
    """Another server that speaks OpenAI's protocol has this address: `http://host:port/v1`. By default it is
    OpenAI itself."""
    openai_embedding_model: str = "text-embedding-3-small"
    """This model embeds texts, and the descriptions of pictures, if `TEXT_MODEL` names none."""
    openai_embedding_dimensions: int = Field(1536, gt=0)
    """Its embeddings have this many dimensions."""
    openai_embedding_max_tokens: int = Field(8192, gt=0)
    """A text with more tokens is embedded in parts."""
    openai_embedding_usd_per_million_tokens: float = Field(0.02, ge=0)
    """Its input costs this much."""
    openai_vision_model: str = "gpt-6-luna"
    """This model describes pictures, if `IMAGE_MODEL` names none."""
    openai_vision_reasoning_effort: str = "none"
    """It reasons this much before it answers. With `unsaid` the server decides."""
    openai_vision_input_usd_per_million_tokens: float = Field(0.1, ge=0)
    """Its input costs this much."""
    openai_vision_output_usd_per_million_tokens: float = Field(0.5, ge=0)
    """Its output costs this much."""
    openai_image_model: str = "gpt-image-2.6-sunburst"
    """This model makes product pictures."""
    openai_image_quality: str = "medium"
    """It makes them in this quality: `low`, `medium`, `high`, … With `unsaid` the server decides."""
    openai_image_input_usd_per_million_tokens: float = Field(8, ge=0)
    """Its input costs this much, photo and prompt alike."""
    openai_image_output_usd_per_million_tokens: float = Field(30, ge=0)
    """Its output costs this much."""
    openai_image_timeout_seconds: float = Field(300, gt=0)
    """The client gives up a silent request for a picture after this long. It may have been paid for."""
    openai_timeout_seconds: float = Field(60, gt=0)
    """The client gives up any other silent request after this long."""
    openai_concurrency: int = Field(8, gt=0)
    """A process makes this many requests at once, or fewer if the rate limit says so."""
    ai_daily_budget_usd: Decimal | None = Field(None, ge=0)
    """The requests of a day (UTC) never cost more. Work that may cost more than the rest waits for the next
    day."""
    generated_images_url: str | None = None
    """Generated pictures are written below this URL: `file:///folder`, `s3://bucket/prefix`, `gs://…`,
    `az://…`. By default it is a folder of the database in `DATA_DIR/generated_pictures`."""

    gallery_password: SecretStr | None = None
    """The gallery asks for this password, by any name. Without it, it serves this machine only."""
    gallery_user_header: str | None = None
    """A proxy before the gallery names the user in this header. Only the proxy may reach the gallery."""
    gallery_face_picture: str | None = Field(
        None, description="The gallery shows the picture that this property of an entity with a vector names, if set."
    )
    gallery_url: str | None = None
    """The metadata of each asset links to the gallery at this URL. `dev` sets it."""

    enqueue_notify: bool = True
    """Enqueuing wakes the workers by NOTIFY. With `false` they look for jobs every 0.1 s, and the app can
    commit in two phases; `migrate` and `attach` pass it to the database."""
    worker_seconds: float = Field(3600, gt=0)
    """Another worker relieves a standing worker of this age."""
    max_workers: int = Field(2, gt=0)
    """At most this many standing workers run at once; a further one helps while jobs wait too long."""
    keep_completed_jobs_days: float = Field(7, ge=0)
    """Completed jobs are kept this long."""
    keep_ai_answers_days: float = Field(7, ge=0)
    """Providers' answers are kept this long, so that no answer is bought twice."""
    keep_ai_calls_days: float = Field(90, ge=0)
    """The call log keeps a request this long."""
    keep_dagster_runs_days: float = Field(30, ge=0)
    """Finished runs of this package's jobs are kept this long. Other runs of the Dagster instance are left
    alone."""
    match_part_images: int = Field(100_000, gt=0)
    """The matcher holds this many images at once, and as many between jobs: 200 MB if they have 512
    dimensions."""
    step_executor: Literal["multiprocess", "celery", "kubernetes"] = "multiprocess"
    """The shards of the nightly rebuild run in processes of one machine, on Celery workers, or in pods of
    Kubernetes: see [deploy.md](deploy.md)."""
    celery_broker_url: SecretStr | None = None
    """Celery's messages go through this broker. Without it they go through Dagster's Postgres."""
    nightly_hour_utc: int = Field(3, ge=0, le=23)
    """The nightly job starts at this hour."""

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
