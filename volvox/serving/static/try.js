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
const required = input?.required;
let sample = null; // the button of the sample that is asked about, if one is
let latest = 0;

function notice(text) {
  const made = document.createElement("p");
  made.className = "notice bad";
  made.textContent = text;
  return made;
}

async function ask() {
  const mine = ++latest;
  const asked = new FormData(form);
  if (sample) asked.append(sample.name, sample.value);
  answer.classList.add("asking");
  answer.setAttribute("aria-busy", "true");
  let told;
  try {
    const response = await fetch(form.action, { method: "POST", body: asked });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    told = page.getElementById("answer")?.childNodes ?? [page.querySelector(".notice") ?? notice(page.body.textContent)];
    if (sample && mine === latest) curl.textContent = page.getElementById("curl")?.textContent ?? curl.textContent;
  } catch {
    told = [notice("The server did not answer. Does it still run (volvox status), and is the file not too large?")];
  }
  if (mine !== latest) return; // something else was asked meanwhile
  answer.classList.remove("asking");
  answer.removeAttribute("aria-busy");
  answer.replaceChildren(...told);
  answer.parentElement.scrollIntoView({ block: "nearest" });
}

function show(button, shown) {
  sample = button;
  input.required = required && !sample;
  for (const other of samples) other.setAttribute("aria-pressed", String(other === sample));
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.hidden = !shown;
  if (shown) preview.src = shown;
}

function useFile(file) {
  show(null, file.type.startsWith("image/") ? URL.createObjectURL(file) : "");
  const quoted = `'${input.name}=@${file.name.replaceAll("'", "'\\''")}'`;
  curl.textContent = `curl -sS -F ${quoted} ${location.origin}${form.dataset.predict}`;
  if (form.reportValidity()) ask();
}

function useFiles(files) {
  if (!files.length) return;
  const transfer = new DataTransfer();
  transfer.items.add(files[0]);
  input.files = transfer.files;
  useFile(files[0]);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.dataset.sample) {
    input.value = "";
    show(event.submitter, event.submitter.dataset.sample);
  }
  ask();
});

if (input) {
  document.getElementById("other-ways").hidden = false;
  preview.addEventListener("error", () => (preview.hidden = true)); // no image, or one that browsers cannot show
  input.addEventListener("change", () => { if (input.files[0]) useFile(input.files[0]); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    useFiles(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => useFiles(event.clipboardData.files));
}
