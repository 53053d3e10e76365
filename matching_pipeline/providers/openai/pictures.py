"""Product pictures: an image model edits the product's photo."""

import base64
import hashlib
from contextlib import suppress
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from PIL import Image
from pydantic import BaseModel, ValidationError

from matching_pipeline.errors import ConfigurationError, TransientFailure
from matching_pipeline.providers.openai.client import OpenAIClient, Options, Question
from matching_pipeline.providers.openai.faults import Doubtful, MalformedResponse, RequestFailed
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.protocols import GeneratedPicture

PHOTO_SIDE: Final = 1536
"""A larger photo is scaled down."""
SIZE: Final = "1024x1024"
ESTIMATED_TOKENS: Final = 3000
MOST_PHOTO_TOKENS: Final = 12_000
"""The budget reserves so many tokens for a photo, and the following for a picture of each quality."""
MOST_OUTPUT_TOKENS: Final = {"low": 500, "medium": 1700, "high": 6500}
FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""The formats that are taken: a compatible server may not be able to make a JPEG."""
EDIT_VERSION: Final = "edit-1"
"""Part of the model's name: it changes when the request is made in another way."""
FAITHFUL_WHEN_TOLD: Final = "gpt-image-1.5"
"""Only these models take a high `input_fidelity`. Later ones keep to the photo without it, and refuse it."""


class ImageEntry(BaseModel):
    b64_json: str | None = None


class ImagesBody(BaseModel):
    data: list[ImageEntry] | None = None


class OpenAIImageGenerator:
    """The ImageGenerator of an OpenAI image model. The photo is sent as data, scaled down, with the type's prompt.

    A picture is bought once: the same photo and prompt give the same one in any project, unless a job asks for
    another. With `quality` None the server chooses the quality.
    """

    def __init__(self, client: OpenAIClient, model: PricedModel, quality: str | None, timeout: float) -> None:
        self.model = "/".join(filter(None, (model.name, quality, EDIT_VERSION)))
        self.concurrency = client.threads
        self._client = client
        self._model = model
        self._quality = quality or ""
        self._has_made = False
        self._options: Options = {} if quality is None else {"quality": quality}
        self._asked: dict[str, Any] = {
            "model": model.name,
            "size": SIZE,
            "output_format": "jpeg",
            "timeout": timeout,
            **({"input_fidelity": "high"} if model.name.startswith(FAITHFUL_WHEN_TOLD) else {}),
        }

    def generate(
        self, photo: Image.Image, image_type: str, prompt: str, forced_by: UUID | None = None
    ) -> GeneratedPicture:
        data = _png(photo)
        parts = hashlib.sha256(data).digest(), hashlib.sha256(prompt.encode()).digest()
        input_hash = hashlib.sha256(b"".join(parts) + (forced_by.bytes if forced_by else b"")).digest()
        question = Question(
            self._model,
            operation="image",
            answered_by=self.model,
            estimated_tokens=ESTIMATED_TOKENS,
            most_tokens=(MOST_PHOTO_TOKENS + len(prompt.encode()), MOST_OUTPUT_TOKENS.get(self._quality, 13_000)),
            options=self._options,
            ask=lambda api, options: (
                api.images.with_raw_response.edit(
                    image=("photo.png", data, "image/png"), prompt=prompt, **self._asked, **options
                ).http_response
            ),
            timeout_setting="OPENAI_IMAGE_TIMEOUT_SECONDS",
        )
        answer = self._client.answer(question, input_hash, self._picture, self._tell)
        media_type, width, height = _inspected(answer.content)
        cost = self._model.cost(answer.input_tokens, answer.output_tokens)
        return GeneratedPicture(answer.content, media_type, width, height, cost)

    def probe(self) -> None:
        """Asks whether the model exists; raises the fault, if any. A picture would cost real money."""
        question = Question(
            self._model,
            operation="probe",
            answered_by=self.model,
            estimated_tokens=0,
            most_tokens=(0, 0),
            ask=lambda api, options: api.models.with_raw_response.retrieve(self._model.name).http_response,
        )
        self._client.send(question, lambda reply: None)

    def _tell(self, doubt: Doubtful) -> None:
        """Asks whether the model exists, since another picture would cost real money. Some servers cannot say it.

        That the model exists says nothing of the right to make pictures: only a picture that was made does.
        """
        if (
            isinstance(doubt, RequestFailed)
            and isinstance(doubt.if_all_fail, ConfigurationError)
            and not self._has_made
        ):
            raise doubt.if_all_fail
        with suppress(ConfigurationError):
            self.probe()

    def _picture(self, body: Any) -> bytes:
        """The picture's file. Raises TransientFailure if the model gave none."""
        try:
            entries = ImagesBody.model_validate(body).data or []
        except ValidationError as error:
            raise MalformedResponse(str(error)) from error
        if not entries or not entries[0].b64_json:
            raise TransientFailure(f"{self._model.name} gave no picture")
        try:
            picture = base64.b64decode(entries[0].b64_json, validate=True)
            _inspected(picture)
        except Exception as error:  # a damaged file can raise any exception
            reason = str(error) or type(error).__name__
            raise TransientFailure(f"{self._model.name} gave something that is not a picture: {reason}") from error
        self._has_made = True
        return picture


def _inspected(data: bytes) -> tuple[str, int, int]:
    """Media type, width and height of a whole picture."""
    with Image.open(BytesIO(data), formats=FORMATS) as picture:
        picture.load()
        return Image.MIME[str(picture.format)], picture.width, picture.height


def _png(photo: Image.Image) -> bytes:
    small = photo.copy()
    small.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    file = BytesIO()
    small.save(file, "PNG")
    return file.getvalue()
