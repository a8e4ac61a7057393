// Bars get their width, a running deployment stays fresh, and a secret is shown once. No outside host.
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

// What is running is asked for every two seconds; a server that is away, every ten.
async function follow(card) {
  let told;
  try {
    const answer = await fetch(card.dataset.url, { headers: { Accept: "application/json" }, redirect: "error" });
    if (!answer.ok) throw new Error(answer.statusText);
    told = await answer.json();
  } catch {
    setTimeout(() => follow(card), 10000);
    return;
  }
  draw(card, told.bars);
  if (told.is_running) setTimeout(() => follow(card), 2000);
  else location.reload();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".kx-part")) part.style.width = `${part.dataset.percent}%`;
  // Loading the page of a secret again would make another token: it becomes the list.
  const secret = document.getElementById("kx-secret");
  if (secret) history.replaceState(null, "", secret.dataset.listUrl);
  const card = document.getElementById("kx-progress");
  if (card && card.dataset.running === "yes") setTimeout(() => follow(card), 2000);
});
