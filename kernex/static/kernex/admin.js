// Draws progress bars, refreshes a running deployment, and keeps a reload from creating a second token.
"use strict";

function draw(card, bars) {
  const barElement = card.querySelector(".kx-bar");
  const legend = card.querySelector(".kx-legend");
  barElement.replaceChildren(...bars.map((bar) => {
    const part = document.createElement("span");
    part.className = `kx-part kx-${bar.tone}`;
    part.style.width = `${bar.percent}%`;
    part.title = `${bar.state}: ${bar.count}`;
    return part;
  }));
  legend.replaceChildren(...bars.map((bar) => {
    const text = document.createElement("span");
    const count = document.createElement("strong");
    text.className = `kx-${bar.tone}-text`;
    count.textContent = bar.count;
    text.append(count, ` ${bar.state}`);
    return text;
  }));
}

// Poll a running deployment every two seconds, and every ten seconds while the server does not answer.
async function poll(card) {
  let progress;
  try {
    const response = await fetch(card.dataset.url, { headers: { Accept: "application/json" }, redirect: "error" });
    if (!response.ok) throw new Error(response.statusText);
    progress = await response.json();
  } catch {
    setTimeout(() => poll(card), 10000);
    return;
  }
  draw(card, progress.bars);
  if (progress.is_running) setTimeout(() => poll(card), 2000);
  else location.reload();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".kx-part")) part.style.width = `${part.dataset.percent}%`;
  // Reloading the page of a secret would create another token, so its URL becomes that of the list.
  const secret = document.getElementById("kx-secret");
  if (secret) history.replaceState(null, "", secret.dataset.listUrl);
  const card = document.getElementById("kx-progress");
  if (card && card.dataset.running === "yes") setTimeout(() => poll(card), 2000);
});
