// Send an archive from the browser to storage without passing the server: get a URL, PUT the archive, report that it arrived.
"use strict";

function post(url, fields) {
  const body = new FormData();
  const token = document.querySelector("input[name=csrfmiddlewaretoken]").value;
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return fetch(url, { method: "POST", body, headers: { "X-CSRFToken": token }, redirect: "error" }).then(async (answer) => {
    const reply = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(reply.message || `The server returned ${answer.status}.`);
    return reply;
  });
}

// fetch does not report progress.
function put(url, file, showProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.upload.addEventListener("progress", (event) => showProgress(event.loaded / file.size));
    request.addEventListener("load", () => {
      if (request.status === 200) resolve();
      else reject(new Error(`Storage refused the archive (${request.status}).`));
    });
    request.addEventListener("error", () => reject(new Error(
      "Storage cannot be reached from this browser: it must allow this origin (manage.py prepare_bucket).",
    )));
    request.send(file);
  });
}

async function send(form, status) {
  const file = form.querySelector("input[type=file]").files[0];
  if (!file) return;
  const fields = { name: form.elements.name.value, version: form.elements.version.value, size: file.size };
  const button = form.querySelector("button[type=submit], input[type=submit]");
  const say = (text) => { status.hidden = false; status.textContent = text; };
  if (button) button.disabled = true;
  try {
    say("Sending the archive to storage …");
    const { url, arrived_url: arrived } = await post(status.dataset.startUrl, fields);
    await put(url, file, (share) => say(`Sending the archive to storage: ${Math.floor(100 * share)} %`));
    location.assign((await post(arrived, {})).url);
  } catch (error) {
    say(error.message);
    if (button) button.disabled = false;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const status = document.getElementById("kx-archive");
  const form = document.getElementById("bundle_form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, status);
  });
});
