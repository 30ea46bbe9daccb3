// After base.js.
"use strict";

const MOST = 5; // classes to name
let adapters = [];
let picture = null;
let asked = 0; // only the latest question's answer is shown

function choice(adapter, first) {
  const label = element("label", undefined, "adapter");
  const input = element("input");
  input.type = "radio";
  input.name = "adapter";
  input.value = adapter.name;
  input.checked = first;
  input.addEventListener("change", predict);
  const outputs = { classify: "classes", multilabel: "labels", regress: "values" }[adapter.task];
  const size = (adapter.bytes / 1e6).toFixed(2);
  label.append(input, element("b", adapter.name), element("small", `${adapter.classes} ${outputs}, ${size} MB`));
  return label;
}

async function list() {
  try {
    adapters = (await ask("v1/adapters")).adapters;
    part("token-form").hidden = true;
    part("main").hidden = adapters.length === 0;
    part("state").textContent = adapters.length === 1 ? "1 adapter is loaded." : `${adapters.length} adapters are loaded.`;
    const field = part("adapters");
    field.querySelectorAll(".adapter").forEach((old) => old.remove());
    field.append(...adapters.map((adapter, index) => choice(adapter, index === 0)));
  } catch (error) {
    part("token-form").hidden = error.status !== 401;
    part("state").textContent = error.status === 401 && !token ? "This server wants a token." : error.message;
  }
}

function line(guess, task) {
  const item = element("li");
  item.append(element("span", guess.class, "name"));
  if (task === "regress") {
    item.append(element("span", String(guess.probability), "share"));
    return item;
  }
  const meter = element("meter");
  meter.value = guess.probability;
  meter.setAttribute("aria-label", guess.class);
  item.append(element("span", `${(100 * guess.probability).toFixed(2)} %`, "share"), meter);
  return item;
}

async function predict() {
  const chosen = document.querySelector("input[name=adapter]:checked");
  if (!picture || !chosen) return;
  const adapter = adapters.find((one) => one.name === chosen.value);
  const mine = ++asked;
  const started = performance.now();
  part("told").hidden = true;
  part("took").textContent = "Asking…";
  try {
    const query = new URLSearchParams({ adapter: adapter.name, top: Math.min(MOST, adapter.classes) });
    const headers = { "Content-Type": "application/octet-stream" };
    const found = await ask(`v1/predict?${query}`, { method: "POST", body: picture, headers });
    if (mine !== asked) return;
    part("answer").replaceChildren(...found.results[0].predictions.map((guess) => line(guess, found.task)));
    part("took").textContent = `${adapter.name}: ${Math.round(performance.now() - started)} ms`;
  } catch (error) {
    if (mine !== asked) return;
    part("answer").replaceChildren();
    part("took").textContent = "";
    part("told").textContent = error.message;
    part("told").hidden = false;
    if (error.status === 401) list();
  }
}

function take(file) {
  if (!file) return;
  picture = file;
  const shown = part("shown");
  if (shown.src) URL.revokeObjectURL(shown.src);
  shown.onload = () => { shown.hidden = false; };
  shown.onerror = () => { shown.hidden = true; }; // a format that the server reads and the browser does not
  shown.src = URL.createObjectURL(file);
  part("hint").textContent = `${file.name} (drop or choose another)`;
  predict();
}

whenGiven(take);
part("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = part("token").value;
  list();
});
list();
