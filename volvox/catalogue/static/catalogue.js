// Searches the catalogue's cards, and shows this server's own address in the commands. The pages work without it.
"use strict";

for (const place of document.querySelectorAll("[data-origin]"))
  if (location.protocol.startsWith("http")) place.textContent = location.origin;

const form = document.getElementById("search");
if (form) {
  const cards = [...document.querySelectorAll("#entries > li")];
  const told = new Map(cards.map((card) => [card.dataset.name, { text: card.textContent.toLowerCase(), metadata: {} }]));

  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filters = ["tags", "tasks", "libraries"].filter((key) => form.elements[key]?.value);
    let found = 0;
    for (const card of cards) {
      const { text, metadata } = told.get(card.dataset.name);
      const fits =
        words.every((word) => text.includes(word)) &&
        filters.every((key) => (metadata[key] ?? []).includes(form.elements[key].value));
      card.hidden = !fits;
      found += fits;
    }
    const asked = words.length || filters.length;
    document.getElementById("found").textContent = asked ? `${found} of ${cards.length} models` : "\u00a0";
  };

  const strings = (value) =>
    typeof value === "object" && value ? Object.values(value).map(strings).join(" ") : String(value ?? "");

  fetch("catalogue.json")
    .then((answer) => answer.json())
    .then((entries) => {
      for (const { name, metadata } of entries)
        if (told.has(name)) told.set(name, { text: `${name} ${strings(metadata)}`.toLowerCase(), metadata });
      show();
    })
    .catch(() => form.querySelectorAll("select").forEach((choice) => (choice.closest(".field").hidden = true)));

  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
}
