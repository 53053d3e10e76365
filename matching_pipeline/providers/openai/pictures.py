"""Product pictures by an image model that edits the product's photo."""

import base64
import hashlib
from io import BytesIO
from typing import Any, Final
from uuid import UUID

from PIL import Image
from pydantic import BaseModel, ValidationError

from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.openai.client import Model, OpenAIClient, Question, Reply
from matching_pipeline.providers.openai.faults import BadRequest, Misfit
from matching_pipeline.providers.protocols import GeneratedPicture

PHOTO_SIDE: Final = 1536
"""A larger photo is scaled down."""
SIZE: Final = "1024x1024"
ESTIMATED_TOKENS: Final = 3000
FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""In which an answer is taken: a compatible server may not know how to make a JPEG."""
EDIT_VERSION: Final = "edit-1"
"""Part of the model's name: it changes with how the photo is sent, and how the picture is asked for."""
FAITHFUL_WHEN_TOLD: Final = "gpt-image-1.5"
"""Models before it cannot be told to keep to the photo; later ones do, and refuse to be told."""


class ImageEntry(BaseModel):
    b64_json: str | None = None


class ImagesBody(BaseModel):
    data: list[ImageEntry] | None = None


class OpenAIImageGenerator:
    """The ImageGenerator: the photo is sent as data, scaled down, with the type's prompt.

    A picture that reached us is not bought again: the same photo and prompt give the same one in any project,
    until `anew` says for which job there must be another. `quality` None leaves it to the server.
    """

    def __init__(self, client: OpenAIClient, model: Model, quality: str | None, timeout: float) -> None:
        self.model = "/".join(filter(None, (model.name, quality, EDIT_VERSION)))
        self.concurrency = client.threads
        self._client = client
        self._model = model
        self._asked: dict[str, Any] = {
            "model": model.name,
            "size": SIZE,
            "output_format": "jpeg",
            "timeout": timeout,
            **({} if quality is None else {"quality": quality}),
            **({"input_fidelity": "high"} if model.name.startswith(FAITHFUL_WHEN_TOLD) else {}),
        }

    def generate(
        self, photo: Image.Image, image_type: str, prompt: str, anew: UUID | None = None
    ) -> GeneratedPicture:
        data = _png(photo)
        parts = hashlib.sha256(data).digest(), hashlib.sha256(prompt.encode()).digest(), anew.bytes if anew else b""
        input_hash = hashlib.sha256(b"".join(parts)).digest()
        answer = self._client.single_flight.answers(
            self.model, [input_hash], lambda missing: self._edit(missing[0], data, prompt)
        )[input_hash]
        if isinstance(answer, JobFailure):
            raise answer
        media_type, width, height = _looked_at(answer.content)
        cost = self._model.cost(answer.input_tokens, answer.output_tokens)
        return GeneratedPicture(answer.content, media_type, width, height, cost)

    def probe(self) -> None:
        """Asks whether there is the model, and raises what is wrong; a picture would cost real money."""
        question = Question(
            self._model,
            answered_by=self.model,
            items=1,
            estimated_tokens=0,
            ask=lambda api: api.models.with_raw_response.retrieve(self._model.name),
        )
        self._client.send(question, lambda reply: None)

    def _edit(self, input_hash: bytes, data: bytes, prompt: str) -> dict[bytes, Answer | JobFailure]:
        def read(reply: Reply) -> None:
            reply.answers[input_hash] = Answer(self._picture(reply.body), reply.input_tokens, reply.output_tokens)

        question = Question(
            self._model,
            answered_by=self.model,
            items=1,
            estimated_tokens=ESTIMATED_TOKENS,
            ask=lambda api: api.images.with_raw_response.edit(
                image=("photo.png", data, "image/png"), prompt=prompt, **self._asked
            ),
            timeout_setting="OPENAI_IMAGE_TIMEOUT_SECONDS",
        )
        try:
            return {**self._client.send(question, read).answers}
        except JobFailure as failure:
            return {input_hash: failure}
        except BadRequest as error:
            return {input_hash: PermanentFailure(f"{self._model.name} refuses the picture: {error}")}

    def _picture(self, body: Any) -> bytes:
        """Its file. Raises TransientFailure where the model gave none."""
        try:
            entries = ImagesBody.model_validate(body).data or []
        except ValidationError as error:
            raise Misfit(str(error)) from error
        if not entries or not entries[0].b64_json:
            raise TransientFailure(f"{self._model.name} gave no picture")
        try:
            picture = base64.b64decode(entries[0].b64_json, validate=True)
            _looked_at(picture)
        except Exception as error:  # damage shows in any exception
            reason = str(error) or type(error).__name__
            raise TransientFailure(f"{self._model.name} gave something that is no picture: {reason}") from error
        return picture


def _looked_at(data: bytes) -> tuple[str, int, int]:
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
