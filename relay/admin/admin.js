// SPDX-License-Identifier: MIT
// Keeps the page up to date from /state.json. Values are set as text, never as markup.
"use strict";

const EVERY_MS = 5000;
const filter = document.getElementById("filter");
let asked = 0;

function fill(list, rows, make) {
  if (list) list.replaceChildren(...rows.map(make));
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function columnsOf(body) {
  return [...body.closest("table").querySelectorAll("th")].map((head) => head.textContent);
}

function row(body, cells, result) {
  const made = element("tr", "", { class: result });
  columnsOf(body).forEach((name, at) => made.append(element("td", cells[at], { "data-name": name })));
  return made;
}

function resultOf(outcome) {
  return ["delivered", "deferred", "rejected"].find((one) => outcome.startsWith(one)) || "";
}

function figure([label, value, note]) {
  const made = document.createElement("div");
  made.append(element("dt", label), element("dd", value), element("dd", note));
  return made;
}

function mailRow(body, cells) {
  const made = row(body, cells, "");
  made.lastChild.replaceChildren(element("a", cells[3] || "(no subject)", { href: "/mails/" + encodeURIComponent(cells[4]) }));
  return made;
}

function show(state) {
  const badge = document.getElementById("state");
  badge.textContent = badge.className = state.state;
  document.title = "graph-smtp-relay: " + state.state;
  fill(document.getElementById("troubles"), state.troubles, (text) => element("li", text));
  fill(document.getElementById("figures"), state.figures, figure);
  for (const [name, path] of Object.entries(state.chart.paths)) {
    document.querySelector("#chart path." + name).setAttribute("d", path);
  }
  for (const name of ["from", "to", "peak"]) document.getElementById(name).textContent = state.chart[name];
  const [messages, problems, mails] = ["messages", "problems", "mails"].map((name) => document.getElementById(name));
  fill(messages, state.messages, (cells) => row(messages, cells, resultOf(cells[9])));
  fill(problems, state.problems, (cells) => row(problems, cells, resultOf(cells[2])));
  fill(mails, state.mails || [], (cells) => mailRow(mails, cells));
}

async function update() {
  const number = ++asked;
  try {
    const answer = await fetch("/state.json?" + new URLSearchParams(new FormData(filter)), { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const state = await answer.json();
    if (number === asked) show(state); // an older answer must not replace a newer one
  } catch {
    const badge = document.getElementById("state");
    badge.textContent = "no answer";
    badge.className = "stale";
  }
}

filter.querySelector("button").hidden = true;
filter.addEventListener("submit", (event) => { event.preventDefault(); update(); });
filter.addEventListener("input", update);
setInterval(() => { if (!document.hidden) update(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
