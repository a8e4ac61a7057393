// Draws progress bars, refreshes a running deployment, and keeps a reload from creating a second token.
"use strict";

function drawBar(bar, segments) {
  bar.replaceChildren(...segments.map((segment) => {
    const part = document.createElement("span");
    part.className = `kx-part kx-${segment.style}`;
    part.style.width = `${segment.percent}%`;
    part.title = `${segment.state}: ${segment.count}`;
    return part;
  }));
}

function draw(card, progress) {
  drawBar(card.querySelector(".kx-bar"), progress.segments);
  const legend = card.querySelector(".kx-legend");
  legend.replaceChildren(...progress.segments.map((segment) => {
    const text = document.createElement("span");
    const count = document.createElement("strong");
    text.className = `kx-${segment.style}-text`;
    count.textContent = segment.count;
    text.append(count, ` ${segment.state}`);
    return text;
  }));
  const observing = card.querySelector("#kx-observing");
  observing.hidden = progress.observing === 0;
  observing.querySelector("strong").textContent = progress.observing;
  const next = card.querySelector("#kx-next");
  next.hidden = progress.next_step === "";
  next.textContent = progress.next_step;
  card.querySelectorAll(".kx-phases tr").forEach((row, index) => {
    const phase = progress.phases[index];
    const [, state, share, devices, results] = row.cells;
    state.firstElementChild.className = `kx-${phase.style}-text`;
    state.firstElementChild.textContent = phase.state;
    drawBar(share.firstElementChild, phase.segments);
    devices.textContent = phase.devices;
    results.textContent = phase.results;
  });
}

// Poll a running deployment every two seconds. Poll every ten seconds while only successes are observed, or while the
// server does not answer. Load the page again when the deployment or the observation has ended.
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
  draw(card, progress);
  const wasRunning = card.dataset.running === "yes";
  if (progress.state !== card.dataset.state) {
    location.reload(); // other buttons apply now
    return;
  }
  if (progress.is_running) setTimeout(() => poll(card), 2000);
  else if (wasRunning || progress.observing === 0) location.reload();
  else setTimeout(() => poll(card), 10000);
}

document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".kx-part")) part.style.width = `${part.dataset.percent}%`;
  // Reloading the page of a secret would create another token, so its URL becomes that of the list.
  const secret = document.getElementById("kx-secret");
  if (secret) history.replaceState(null, "", secret.dataset.listUrl);
  const card = document.getElementById("kx-progress");
  if (card && (card.dataset.running === "yes" || card.dataset.observing !== "0")) setTimeout(() => poll(card), 2000);
});
