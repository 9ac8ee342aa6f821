/** Files that the user picks or drops: pictures, which are shrunk for sending, and saved moments. Sends nothing. */

const LONGEST = 960; // pixels on the longer side; models draw smaller pictures than this

/** Any image that the browser can read, as base64 JPEG. Throws an Error whose message is shown to the user. */
export async function prepare(file) {
  if (!file.type.startsWith("image/")) throw new Error(`“${file.name}” is not a picture. PNG, JPEG and WebP work.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`“${file.name}” cannot be read as a picture. Is the file complete?`);
  }
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { alpha: false });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.92).split(",")[1];
}

/** Whether a file is a saved moment, judged by its name, since browsers know no media type for it. */
export const isMoment = ({ name }) => name.toLowerCase().endsWith(".safetensors");

/** Offer the user a file for download. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Call `take(file)` for each file picked in one of `inputs` or dropped on the page, while `enabled()`. */
export function accept({ inputs, veil, enabled, take }) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      if (input.files[0]) take(input.files[0]);
      input.value = "";
    });
  }
  let depth = 0;
  const carries = (event) => enabled() && [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (on) => veil.classList.toggle("on", on);
  window.addEventListener("dragenter", (event) => {
    if (carries(event)) show((depth += 1) > 0);
  });
  window.addEventListener("dragleave", (event) => {
    if (carries(event)) show((depth = Math.max(0, depth - 1)) > 0);
  });
  window.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    show((depth = 0) > 0);
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}
