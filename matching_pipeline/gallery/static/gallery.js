// A key that an element names activates it, unless the person is writing.
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const element = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!element) return;
  event.preventDefault();
  element.matches("input") ? element.focus() : element.click();
});

// A picture that its own address does not give: the thumbnail stands in.
function standIn(image) {
  if (image.dataset.else && image.src !== new URL(image.dataset.else, location).href) image.src = image.dataset.else;
}
addEventListener("error", event => { if (event.target instanceof HTMLImageElement) standIn(event.target); }, true);
for (const image of document.images) if (image.complete && !image.naturalWidth && image.currentSrc) standIn(image);

// A picture that is chosen, or dropped anywhere on the page, is scaled down here and sent with the form.
const dropForm = document.querySelector("form.drop");
async function searchBy(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, 768 / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height].map(side => Math.max(1, Math.round(side * scale)));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  dropForm.elements.picture.value = canvas.toDataURL("image/jpeg", 0.9);
  dropForm.submit();
}
if (dropForm) {
  dropForm.hidden = false;
  dropForm.querySelector("[type=file]").addEventListener("change", event => searchBy(event.target.files[0]));
  addEventListener("dragover", event => event.preventDefault());
  addEventListener("drop", event => {
    event.preventDefault();
    if (event.dataTransfer.files.length) searchBy(event.dataTransfer.files[0]);
  });
}
