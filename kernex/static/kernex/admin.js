// Keeps a deployment's progress fresh while it runs. No page reload, no outside host.
"use strict";

function draw(card, bars) {
  const bar = card.querySelector(".kx-bar");
  const legend = card.querySelector(".kx-legend");
  bar.replaceChildren(...bars.map((one) => {
    const part = document.createElement("span");
    part.className = `kx-part kx-${one.tone}`;
    part.style.width = `${one.percent}%`;
    part.title = `${one.state}: ${one.count}`;
    return part;
  }));
  legend.replaceChildren(...bars.map((one) => {
    const text = document.createElement("span");
    const count = document.createElement("strong");
    text.className = `kx-${one.tone}-text`;
    count.textContent = one.count;
    text.append(count, ` ${one.state}`);
    return text;
  }));
}

async function follow(card) {
  const answer = await fetch(card.dataset.url, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const told = await answer.json();
  draw(card, told.bars);
  if (told.is_running) setTimeout(() => follow(card), 2000);
  else location.reload();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".kx-part")) part.style.width = `${part.dataset.percent}%`;
  const card = document.getElementById("kx-progress");
  if (card && card.dataset.running === "yes") setTimeout(() => follow(card), 2000);
});
