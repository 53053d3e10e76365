"""The `local` image generator: real work on the product's own photo. No key, no network, no trained weights."""

from io import BytesIO
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import ref

from PIL import Image

from matching_pipeline.providers.protocols import GeneratedPicture

if TYPE_CHECKING:
    from matching_pipeline.providers.local.studio.subject import Subject

JPEG_QUALITY = 90


class LocalImageGenerator:
    """Cuts the product out and sets it into drawn scenes; the same photo always gives the same picture.

    Each type of the standard pack has a scene of its own. The generator cannot read a prompt: a type that a user
    added becomes the product on white. If product and background cannot be told apart, the whole photo is shown.
    """

    model = "local-pictures-1"
    # NumPy in small steps holds the interpreter: a second thread makes both slower
    concurrency = 1

    def __init__(self) -> None:
        self._last: tuple[ref[Image.Image], Subject] | None = None

    def generate(
        self, photo: Image.Image, image_type: str, prompt: str, forced_by: UUID | None = None
    ) -> GeneratedPicture:
        from matching_pipeline.providers.local.studio.scenes import SCENES, white_background

        picture = SCENES.get(image_type, white_background)(self._subject(photo))
        file = BytesIO()
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
        return GeneratedPicture(file.getvalue(), "image/jpeg", picture.width, picture.height)

    def _subject(self, photo: Image.Image) -> "Subject":
        """Finding it takes most of the time, and a pack needs it six times in a row."""
        from matching_pipeline.providers.local.studio.subject import find_subject

        last = self._last
        if last is None or last[0]() is not photo:
            self._last = last = ref(photo), find_subject(photo)
        return last[1]
