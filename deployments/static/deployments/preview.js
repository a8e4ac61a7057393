// Refreshes the preview of a deployment until the server has counted all devices.
"use strict";

async function refresh(preview) {
  try {
    const response = await fetch(preview.dataset.url, { redirect: "error" });
    if (!response.ok) throw new Error(response.statusText);
    preview.innerHTML = await response.text();
    if (response.headers.get("X-Preview-State") !== "computing") return;
  } catch {
    // The server does not answer right now: ask again.
  }
  setTimeout(() => refresh(preview), 2000);
}

document.addEventListener("DOMContentLoaded", () => {
  const preview = document.getElementById("kx-preview");
  if (preview && preview.dataset.state === "computing") setTimeout(() => refresh(preview), 1000);
});
