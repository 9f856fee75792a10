// The try page without reloading: choose, drop or paste an image, or click a sample, and the answer appears beside it.
// The server renders the answer; without this file the form works the same, one page load an answer.
"use strict";

const form = document.getElementById("try");
const answer = document.getElementById("answer");
const curl = document.getElementById("curl");
const drop = document.getElementById("drop");
const input = document.getElementById("try-file");
const preview = document.getElementById("preview");
const samples = document.querySelectorAll("[data-sample]");
let latest = 0;

function notice(text) {
  const made = document.createElement("p");
  made.className = "notice bad";
  made.textContent = text;
  return made;
}

async function ask() {
  const mine = ++latest;
  answer.classList.add("asking");
  answer.setAttribute("aria-busy", "true");
  let told;
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    told = page.getElementById("answer")?.childNodes ?? [page.querySelector(".notice") ?? notice(page.body.textContent)];
  } catch {
    told = [notice("The server did not answer. Does it still run (volvox status), and is the file not too large?")];
  }
  if (mine !== latest) return; // something else was asked meanwhile
  answer.classList.remove("asking");
  answer.removeAttribute("aria-busy");
  answer.replaceChildren(...told);
  answer.parentElement.scrollIntoView({ block: "nearest" });
}

function show(file, sample) {
  for (const button of samples) button.setAttribute("aria-pressed", String(button === sample));
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.hidden = !file.type.startsWith("image/");
  if (!preview.hidden) preview.src = URL.createObjectURL(file);
  const quoted = `'${input.name}=@${file.name.replaceAll("'", "'\\''")}'`;
  curl.textContent = `curl -sS -F ${quoted} ${location.origin}${form.dataset.predict}`;
  if (form.reportValidity()) ask();
}

function use(file, sample) {
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  show(file, sample);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!event.submitter?.dataset.sample) ask();
});

if (input) {
  document.getElementById("other-ways").hidden = false;
  preview.addEventListener("error", () => (preview.hidden = true)); // a file that no browser shows, or no image at all
  input.addEventListener("change", () => { if (input.files[0]) show(input.files[0]); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) use(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) use(event.clipboardData.files[0]);
  });
  for (const button of samples) {
    button.addEventListener("click", async (event) => {
      event.preventDefault();
      const blob = await (await fetch(button.dataset.sample)).blob();
      use(new File([blob], button.value, { type: blob.type }), button);
    });
  }
}
