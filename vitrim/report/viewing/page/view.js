// After base.js of the server.
"use strict";

const PAUSE = 150; // milliseconds a slider rests before its place is asked about
let picture = null;
let cards = [];

function slider(words, kind) {
  const label = element("label", undefined, "slider");
  const input = element("input", undefined, kind);
  input.type = "range";
  input.min = 0;
  input.step = 1;
  const said = element("output");
  label.append(element("span", words), said, input);
  return { label, input, said };
}

function figure() {
  const made = element("figure");
  const image = element("img");
  const words = element("figcaption");
  made.append(image, words);
  return { made, image, words };
}

function guessList(guesses, task) {
  const list = element("ol");
  for (const guess of guesses) {
    const item = element("li");
    const share = task === "regress" ? guess.value.toPrecision(4) : `${(100 * guess.value).toFixed(1)} %`;
    item.append(element("span", guess.name), element("span", share, "number"));
    list.append(item);
  }
  return list;
}

function makeCard(run) {
  const box = element("section", undefined, "run");
  box.append(element("h2", run.name), element("p", run.methods.join(" + ") || "no methods", "quiet"));
  const card = { run, box, asked: 0, timer: 0, seen: null };
  if (run.dial) {
    const dial = slider(run.dial.words, "keep");
    card.dial = dial.input;
    dial.input.max = run.dial.values.length - 1;
    dial.input.value = run.dial.values.indexOf(run.dial.usual);
    const say = () => {
      const value = run.dial.values[dial.input.value];
      dial.said.textContent = `${value}${value === run.dial.usual ? " (as trained)" : ""}`;
    };
    say();
    dial.input.addEventListener("input", () => {
      say();
      clearTimeout(card.timer);
      card.timer = setTimeout(() => see(card), PAUSE);
    });
    box.append(dial.label);
  } else {
    box.append(element("p", run.why_no_dial, "quiet why"));
  }
  card.block = slider("tokens after block", "block");
  card.block.label.hidden = true;
  card.block.input.addEventListener("input", () => showBlock(card));
  card.out = element("div", undefined, "seen");
  box.append(card.block.label, card.out);
  return card;
}

async function see(card) {
  if (!picture) return;
  const mine = ++card.asked;
  card.box.setAttribute("aria-busy", "true");
  const query = new URLSearchParams({ run: card.run.name });
  if (card.dial) query.set("value", card.run.dial.values[card.dial.value]);
  try {
    const seen = await ask(`v1/view?${query}`, { method: "POST", body: picture });
    if (mine !== card.asked) return;
    part("told").hidden = true;
    show(card, seen);
  } catch (error) {
    if (mine !== card.asked) return;
    part("told").textContent = error.message;
    part("told").hidden = false;
  } finally {
    if (mine === card.asked) card.box.setAttribute("aria-busy", "false");
  }
}

function show(card, seen) {
  const maps = seen.maps.length;
  const last = card.seen && card.seen.maps.length === maps ? card.block.input.value : maps - 1;
  card.seen = seen;
  card.block.label.hidden = maps < 2;
  card.block.input.max = Math.max(0, maps - 1);
  card.block.input.value = Math.max(0, last);
  const both = element("div", undefined, "both");
  const whole = figure();
  whole.image.src = seen.picture;
  whole.image.alt = "The picture as the model sees it";
  whole.words.textContent = `as the model sees it: ${seen.tokens_at_start} tokens`;
  card.map = figure();
  card.map.image.className = "map";
  both.append(whole.made, card.map.made);
  const speed = element("p", undefined, "speed number");
  speed.append(
    element("span", `${seen.milliseconds.toFixed(1)} ms`, "large"),
    element("span", ` instead of ${seen.milliseconds_plain.toFixed(1)} ms of the plain backbone: ${seen.ratio.toFixed(2)} of its time (median of the rounds)`),
  );
  const spoken = element("div", undefined, "answer");
  spoken.setAttribute("aria-live", "polite");
  spoken.append(element("h3", "Prediction"), guessList(seen.guesses, seen.task));
  card.out.replaceChildren(
    both, spoken,
    element("h3", "The same weights with all tokens"), guessList(seen.guesses_all_tokens, seen.task),
    element("h3", `Time, medians of ${seen.rounds} rounds`), speed,
  );
  showBlock(card);
}

function showBlock(card) {
  const map = card.seen.maps[card.block.input.value];
  card.map.image.src = map ? map.picture : card.seen.picture;
  const words = map ? `${map.tokens} tokens ${map.words}` : "no token is lost in any block";
  card.map.image.alt = `Map of tokens: ${words}`;
  card.map.words.textContent = words;
  card.block.said.textContent = map ? `${map.block}` : "";
}

function take(file) {
  if (!file) return;
  picture = file;
  cards.forEach(see);
}

whenGiven(take);

ask("v1/view").then(({ runs }) => {
  cards = runs.map(makeCard);
  part("runs").append(...cards.map((card) => card.box));
  part("state").textContent = runs.length === 1 ? "One run." : "Two runs on one picture.";
}).catch((error) => { part("state").textContent = error.message; });
