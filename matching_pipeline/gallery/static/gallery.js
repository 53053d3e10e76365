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
