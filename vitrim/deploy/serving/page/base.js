// What the pages of the server have in common. They ask this server only, and put every name they get in as text,
// never as markup.
"use strict";

const part = (id) => document.getElementById(id);
let token = ""; // shown with every question, where the server wants one

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  const error = new Error(found.error || `The server answered ${answer.status}.`);
  error.status = answer.status;
  throw error;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Hand over the picture that is dropped or chosen; one dropped beside the field must not replace the page.
function whenGiven(take) {
  const drop = part("drop");
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  for (const kind of ["dragover", "dragenter", "drop"]) {
    document.addEventListener(kind, (event) => event.preventDefault());
  }
  part("file").addEventListener("change", (event) => take(event.target.files[0]));
}
