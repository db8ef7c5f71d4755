"use strict";

const search = document.getElementById("search");
const buttons = [...document.querySelectorAll("button[data-verdict]")];
const articles = [...document.querySelectorAll("article")];
const texts = new Map(articles.map((article) => [article, `${article.textContent} ${article.dataset.words}`.toLowerCase()]));

const chosenVerdicts = () => buttons.filter((button) => button.ariaPressed === "true").map((button) => button.dataset.verdict);
const shown = () => articles.filter((article) => !article.hidden);

// An article is shown if it has all words, and a claim of a chosen verdict; of its claims, those of the chosen verdicts.
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const verdicts = chosenVerdicts();
  let claims = 0;
  for (const article of articles) {
    const rows = [...article.querySelectorAll("tbody[data-verdict]")];
    for (const row of rows) row.hidden = verdicts.length > 0 && !verdicts.includes(row.dataset.verdict);
    const left = rows.filter((row) => !row.hidden).length;
    article.hidden = !words.every((word) => texts.get(article).includes(word)) || (verdicts.length > 0 && left === 0);
    if (!article.hidden) claims += left;
    document.querySelector(`nav a[href="#${article.id}"]`).closest("li").hidden = article.hidden;
  }
  for (const list of document.querySelectorAll("nav ul")) {
    list.hidden = list.previousElementSibling.hidden = [...list.children].every((entry) => entry.hidden);
  }
  const all = verdicts.length + words.length === 0;
  for (const checks of document.querySelectorAll(".checks")) checks.hidden = !all;
  document.getElementById("found").textContent = `${shown().length} of ${articles.length} figures, ${claims} claims`;
  document.getElementById("nothing").hidden = shown().length > 0;
}

function showAll() {
  search.value = "";
  for (const button of buttons) button.ariaPressed = "false";
  filter();
}

// By one figure forwards or backwards, from the one that has the focus in it or else from the one in sight.
function go(step) {
  const figures = shown();
  const middle = innerHeight / 2;
  const focused = figures.findIndex((article) => article.contains(document.activeElement));
  const inSight = figures.findLastIndex((article) => article.getBoundingClientRect().top < middle);
  const target = figures[(focused < 0 ? inSight : focused) + step];
  if (!target) return;
  target.focus({ preventScroll: true });
  target.scrollIntoView();
}

search.addEventListener("input", filter);
document.getElementById("clear").addEventListener("click", showAll);
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
    filter();
  });
}

// In full size a picture scrolls in its frame. On a phone all begin so: shrunk to its width, their text could not be read.
const phone = matchMedia("(max-width: 40rem)");
const sizes = [...document.querySelectorAll("button.size")];

function setFull(button, full) {
  button.closest("figure").querySelector(".picture").classList.toggle("full", full);
  button.ariaPressed = String(full);
}

for (const button of sizes) button.addEventListener("click", () => setFull(button, button.ariaPressed !== "true"));
phone.addEventListener("change", () => sizes.forEach((button) => setFull(button, phone.matches)));
sizes.forEach((button) => setFull(button, phone.matches));

// Each file is in the page once, compressed. What is unpacked is what the link saves and what pictures of this name show.
async function unpack(link) {
  const bytes = Uint8Array.from(atob(link.dataset.packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const file = new Blob([await new Response(stream).arrayBuffer()], { type: link.dataset.kind });
  link.href = URL.createObjectURL(file);
  for (const image of document.querySelectorAll(`img[data-of="${link.download}"]`)) image.src = link.href;
}

for (const link of document.querySelectorAll("a[data-packed]")) unpack(link);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") showAll();
  else if (event.target === search) return;
  else if (event.key === "/") {
    event.preventDefault();
    search.focus();
  } else if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
});
filter();
