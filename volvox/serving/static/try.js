// The try page: choose, drop, paste or click an image; the answer appears beside it. Without this file the form still works.
"use strict";

const form = document.getElementById("try");
const answer = document.getElementById("answer");
const curl = document.getElementById("curl");
const field = form.dataset.fileField;
const input = field ? form.elements.namedItem(field) : null;
const preview = document.getElementById("preview");
const drop = document.getElementById("drop");
let latest = 0;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function show(file) {
  if (!preview) return;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = !file || !file.type.startsWith("image/");
  if (!preview.hidden) preview.src = URL.createObjectURL(file);
}

function values(file) {
  const data = new FormData();
  for (const control of form.elements) {
    if (!control.name || control.type === "submit") continue;
    if (control.type === "file") {
      const chosen = control === input && file ? file : control.files[0];
      if (chosen) data.append(control.name, chosen, chosen.name || "image.png");
    } else if (control.dataset.kind === "array") {
      for (const line of control.value.split("\n")) if (line) data.append(control.name, line);
    } else if (control.value !== "") {
      data.append(control.name, control.value);
    }
  }
  return data;
}

function classifications(said) {
  let found = said && typeof said === "object" && "predictions" in said ? said.predictions : said;
  if (found && typeof found === "object" && "predictions" in found) found = found.predictions;
  if (!found || typeof found !== "object") return [];
  if (Array.isArray(found.labels) && Array.isArray(found.probabilities)) return [["", found.labels, found.probabilities]];
  if (!Array.isArray(found.pred_lab) || !Array.isArray(found.pred_prob)) return [];
  return found.pred_lab.map((labels, i) => [(found.filenames || [])[i] || "", labels, found.pred_prob[i]]);
}

function table(caption, labels, probabilities) {
  const made = element("table", "", { class: "bars" });
  if (caption) made.append(element("caption", caption));
  labels.forEach((label, i) => {
    const row = element("tr", "");
    const bar = element("td", "");
    bar.append(element("meter", "", { min: 0, max: 1, value: probabilities[i] }));
    row.append(element("th", label, { scope: "row" }), bar, element("td", `${(100 * probabilities[i]).toFixed(1)} %`));
    made.append(row);
  });
  return made;
}

function told(status, text, seconds, server) {
  let said = text;
  try { said = JSON.parse(text); } catch { /* an error in plain text */ }
  const parts = [];
  if (status !== 200) {
    const reason = typeof said === "string" ? said : Object.entries(said).map(([k, v]) => `${k}: ${[].concat(v).join(" ")}`).join("; ");
    parts.push(element("p", reason, { class: "notice" }));
  }
  const found = status === 200 ? classifications(said) : [];
  for (const one of found) parts.push(table(...one));
  const time = server ? `, ${server} ms of it in the model` : "";
  parts.push(element("p", `${(1000 * seconds).toFixed(0)} ms${time}`));
  const raw = element("details", "");
  raw.open = status === 200 && !found.length;
  raw.append(element("summary", "JSON"), element("pre", typeof said === "string" ? said : JSON.stringify(said, null, 2)));
  answer.replaceChildren(...parts, raw);
}

async function ask(file) {
  const mine = ++latest;
  answer.replaceChildren(element("p", "Asking…"));
  const began = performance.now();
  try {
    const data = values(file);
    const response = await fetch(form.dataset.predict, { method: "POST", body: data });
    const text = await response.text();
    const server = (/dur=([\d.]+)/.exec(response.headers.get("Server-Timing") || "") || [])[1];
    if (mine === latest) told(response.status, text, (performance.now() - began) / 1000, server);
  } catch (error) {
    if (mine === latest) answer.replaceChildren(element("p", `The server did not answer: ${error.message}`, { class: "notice" }));
  }
}

function use(file) {
  show(file);
  if (input && file instanceof File) {
    const transfer = new DataTransfer();
    transfer.items.add(file);
    input.files = transfer.files;
  }
  if (field && curl) {
    const quoted = `'${field}=@${file.name.replaceAll("'", "'\\''")}'`;
    curl.textContent = `curl -sS -F ${quoted} ${location.origin}${form.dataset.predict}`;
  }
  if (form.reportValidity()) ask(file);
}

form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });

if (input) {
  drop.hidden = false;
  input.addEventListener("change", () => { if (input.files[0]) use(input.files[0]); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) use(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files || [])][0];
    if (file) use(file);
  });
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", async (event) => {
      event.preventDefault();
      const blob = await (await fetch(button.dataset.sample)).blob();
      use(new File([blob], button.value, { type: blob.type }));
    });
  }
}
