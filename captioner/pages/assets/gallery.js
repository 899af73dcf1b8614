// The gallery of one output folder. All texts are somebody else's: they are set as text, never as
// HTML. `RESULTS` (gallery/data.js) has one object a picture; see captioner/pages/gallery.py.
"use strict";

// cards that are added at a time, as one scrolls: a list of their own, which the browser leaves alone
// while it is off the screen. So many fill its last row whether there are two in a row, or six.
const CHUNK = 60;
const CARD_CHARACTERS = 2000;
const KINDS = [
  ["all", "All", () => true],
  ["new", "New in this run", (r) => r.new],
  ["flagged", "Flagged", (r) => r.flags.length > 0],
  ["edited", "Edited", (r) => r.edited],
  ["skipped", "Skipped", (r) => r.state === "skipped"],
  ["failed", "Failed", (r) => r.state === "failed"],
  ["open", "Not reviewed", (r) => r.review === "open"],
  ["accepted", "Accepted", (r) => r.review === "accepted"],
  ["again", "To be captioned again", (r) => r.review === "again"],
];
const ORDERS = {
  name: null, // as they come
  new: (a, b) => (b.at || "").localeCompare(a.at || ""),
  long: (a, b) => b.text.length - a.text.length,
  short: (a, b) => a.text.length - b.text.length,
  slow: (a, b) => (b.seconds || 0) - (a.seconds || 0),
};

const byId = (id) => document.getElementById(id);
const list = byId("pictures"), large = byId("large");
let shown = RESULTS, added = 0, kind = "all", open = -1;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function marks(result) {
  const box = element("div", "marks");
  if (result.state !== "captioned") box.append(element("span", "bad", result.state));
  for (const flag of result.flags) box.append(element("span", "warn", flag));
  if (result.edited) box.append(element("span", "", "edited"));
  if (result.review === "accepted") box.append(element("span", "good", "accepted"));
  if (result.review === "again") box.append(element("span", "warn", "to be captioned again"));
  if (result.new) box.append(element("span", "", "new"));
  return box;
}

// What there is room for on a card; the large view has more.
function short(text) {
  return text.length > CARD_CHARACTERS ? `${text.slice(0, CARD_CHARACTERS)}…` : text;
}

function described(result) {
  return short(result.state === "captioned" ? result.alt || result.text : result.name);
}

function copyButton(result) {
  const button = element("button", "copy", "Copy caption");
  button.type = "button";
  button.setAttribute("aria-label", `Copy the caption of ${result.name}`);
  button.addEventListener("click", () => copy(result, button));
  return button;
}

function card(result, place) {
  const item = element("li");
  if (result.picture) {
    const button = element("button", "picture");
    button.type = "button";
    const image = element("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.src = result.thumbnail || result.picture;
    // a thumbnail that has gone; the picture itself may be in a format that this browser cannot show
    if (result.thumbnail) image.addEventListener("error", () => { image.src = result.picture; }, { once: true });
    image.alt = described(result);
    button.append(image);
    button.addEventListener("click", () => enlarge(place));
    item.append(button);
  }
  const text = element("div", "text");
  text.append(element("h2", "", result.name), marks(result), element("p", "", short(result.text)));
  if (result.fields) text.append(pairs(element("dl", "fields"), result.fields));
  if (result.state === "captioned") text.append(copyButton(result));
  item.append(text);
  return item;
}

function pairs(box, values) {
  const made = Object.entries(values).flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  box.replaceChildren(...made);
  return box;
}

// Told when the end of the cards comes near; only of a change, so it is asked anew after each chunk.
const nearTheEnd = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) more();
}, { rootMargin: "1500px" });

function more() {
  const next = shown.slice(added, added + CHUNK);
  nearTheEnd.unobserve(byId("end"));
  if (!next.length) return;
  const chunk = element("ul");
  chunk.append(...next.map((result, i) => card(result, added + i)));
  list.append(chunk);
  added += next.length;
  nearTheEnd.observe(byId("end"));
}

function update() {
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const folder = byId("folder").value;
  const wanted = KINDS.find(([name]) => name === kind)[2];
  const matches = (r) =>
    wanted(r) && (!folder || r.name.startsWith(folder)) && words.every((w) => haystack(r).includes(w));
  shown = RESULTS.filter(matches);
  const order = ORDERS[byId("order").value];
  if (order) shown = shown.slice().sort(order);
  list.replaceChildren();
  added = 0;
  more();
  const of = shown.length === RESULTS.length ? "" : ` of ${RESULTS.length.toLocaleString("en")}`;
  const noun = RESULTS.length === 1 ? "picture" : "pictures";
  byId("count").textContent = `${shown.length.toLocaleString("en")}${of} ${noun}`;
}

function haystack(result) {
  result.hay ??= [result.name, result.text, ...Object.values(result.fields || {})].join("\n").toLowerCase();
  return result.hay;
}

async function copy(result, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(result.text);
    button.textContent = "Copied";
  } catch {
    const area = element("textarea"); // where a page from a file may not use the clipboard
    area.value = result.text;
    (large.open ? large : document.body).append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Cannot copy here";
    area.remove();
    button.focus();
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

function enlarge(place) {
  const result = shown[place];
  if (!result) return;
  open = place;
  byId("large-name").textContent = result.name;
  byId("large-picture").src = result.picture || "";
  byId("large-picture").alt = described(result);
  byId("large-picture").hidden = !result.picture;
  byId("large-link").href = result.picture || "";
  byId("large-caption").textContent = result.text;
  note("large-format", "");
  note("large-cut", result.cut);
  byId("large-copy").hidden = result.state !== "captioned";
  pairs(byId("large-fields"), result.fields || {}).hidden = !result.fields;
  pairs(byId("large-figures"), result.figures || {});
  if (!large.open) large.showModal();
  large.dispatchEvent(new CustomEvent("enlarged", { detail: result }));
}

function note(id, sentence) {
  byId(id).textContent = sentence || "";
  byId(id).hidden = !sentence;
}

// The browser did not show the picture: what there is of it besides, in turn. It does not tell why.
function showLess() {
  const result = shown[open];
  if (!result) return;
  const ways = [result.picture, result.jpeg, result.thumbnail].filter(Boolean);
  const way = ways[ways.indexOf(byId("large-picture").getAttribute("src")) + 1];
  if (way && way === result.jpeg) {
    const kind = result.name.split(".").pop().toUpperCase();
    note("large-format", `Your browser cannot show the ${kind} itself: this is a JPEG of it.`);
  } else {
    const why = "The picture is not there any more, is damaged, or is in a format that your browser does not show";
    note("large-format", `${why}${way ? ": this is its small picture" : ""}.`);
  }
  if (way) byId("large-picture").src = way;
}

function step(by) {
  const place = open + by;
  if (place >= 0 && place < shown.length) enlarge(place);
}

function countKinds() {
  byId("kinds").replaceChildren();
  for (const [name, title, belongs] of KINDS) {
    const count = RESULTS.filter(belongs).length;
    if (name !== "all" && name !== kind && !count) continue;
    const button = element("button", "", `${title} (${count.toLocaleString("en")})`);
    button.type = "button";
    button.setAttribute("aria-pressed", String(name === kind));
    button.addEventListener("click", () => {
      kind = name;
      for (const other of byId("kinds").children) other.setAttribute("aria-pressed", String(other === button));
      update();
    });
    byId("kinds").append(button);
  }
}

function allFolders() {
  const folders = new Set(); // also those that hold nothing but folders
  for (const { name } of RESULTS) {
    for (let end = name.indexOf("/"); end >= 0; end = name.indexOf("/", end + 1)) folders.add(name.slice(0, end + 1));
  }
  return [...folders];
}

function prepare() {
  countKinds();
  const folders = allFolders();
  if (folders.length) {
    byId("folder").append(new Option("all folders", ""), ...folders.map((f) => new Option(f, f)));
    byId("folder").parentElement.hidden = false;
  }
  let waiting = 0;
  byId("words").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  byId("folder").addEventListener("change", update);
  byId("order").addEventListener("change", update);
  byId("large-copy").addEventListener("click", () => copy(shown[open], byId("large-copy")));
  byId("large-picture").addEventListener("error", showLess);
  large.addEventListener("keydown", (event) => {
    if (event.target.tagName === "TEXTAREA") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !large.open && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      byId("words").focus();
    }
  });
  update();
}

prepare();
