// The page of the API: sends a form as a program would and shows status, headers and body of the answer.
// Without this file a form is sent all the same, and the browser shows the answer's body on a page of its own.
"use strict";

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function request(form) {
  const url = new URL(form.action);
  const headers = {};
  if (form.method === "get") return [url, { headers }];
  const body = new FormData();
  for (const [name, value] of new FormData(form)) {
    const input = form.elements[name];
    const place = input.closest("[data-header], [data-query], [data-type]");
    if (value === "" || (value instanceof File && !value.name)) continue; // not given: the module's default counts
    if (place?.dataset.header) headers[name] = value;
    else if (place?.dataset.query) url.searchParams.append(name, value);
    else if (place?.dataset.type === "array") for (const line of value.split("\n")) { if (line) body.append(name, line); }
    else body.append(name, value);
  }
  return [url, { method: "POST", body, headers }];
}

async function withObjects(form, options) {
  // A mapping goes in a JSON body only; a JSON body carries no file, and everything else then goes with it.
  const objects = [...form.querySelectorAll("[data-type=object] textarea")].filter((input) => input.value.trim());
  if (!objects.length) return options;
  const given = {};
  for (const name of new Set(options.body.keys())) {
    const values = options.body.getAll(name);
    if (values[0] instanceof File) throw new Error("A file and a JSON object cannot be sent together.");
    const many = form.elements[name].closest("[data-type=array]");
    given[name] = many ? values : values[0];
  }
  for (const input of objects) given[input.name] = JSON.parse(input.value);
  return { ...options, body: JSON.stringify(given), headers: { ...options.headers, "Content-Type": "application/json" } };
}

async function shown(response) {
  const kind = response.headers.get("content-type") ?? "";
  const parts = [element("h3", `${response.status} ${response.statusText}`)];
  parts.push(element("pre", [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n")));
  if (kind.startsWith("image/")) {
    const image = document.createElement("img");
    image.alt = "The answer";
    image.src = URL.createObjectURL(await response.blob());
    parts.push(image);
  } else if (kind.includes("json") || kind.startsWith("text/")) {
    const text = await response.text();
    let told = text;
    if (kind.includes("json")) { try { told = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it came */ } }
    parts.push(element("pre", told));
  } else {
    const link = element("a", "Download the answer");
    link.href = URL.createObjectURL(await response.blob());
    link.download = "answer";
    parts.push(link);
  }
  return parts;
}

for (const form of document.querySelectorAll("form.ask")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = form.parentElement.querySelector(".said");
    said.hidden = false;
    said.setAttribute("aria-busy", "true");
    try {
      const [url, options] = request(form);
      said.replaceChildren(...await shown(await fetch(url, await withObjects(form, options))));
    } catch (error) {
      said.replaceChildren(element("p", `Not sent, or not answered: ${error.message}`));
    }
    said.removeAttribute("aria-busy");
  });
}
if (location.hash) document.querySelector(`details[id="${CSS.escape(location.hash.slice(1))}"]`)?.setAttribute("open", "");
