// What the gallery can do when it is served for a review; gallery.js has run before.
"use strict";

const undone = []; // what was done in this window, newest last
const text = byId("edit");
byId("large-caption").hidden = true;

function say(sentence, warn) {
  byId("said").textContent = sentence;
  byId("said").className = warn ? "warn" : "";
}

async function send(what, body) {
  const answer = await fetch(what, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const said = await answer.json();
  return { ok: answer.ok, conflict: answer.status === 409, ...said };
}

async function attempt(work) {
  try {
    return await work();
  } catch {
    say("The review does not answer any more: start it again.", true);
    return false;
  }
}

// A textarea has \n for whatever ends a line in what it was given.
function plain(caption) {
  return caption.replace(/\r\n?/g, "\n").trim();
}

// Nothing is written over a caption that is not here whole: it could not be taken back.
function refuse(result) {
  say(`Somebody else changed the caption of ${result.name} meanwhile. It is too long to be changed here, so yours is not saved. It begins: ${short(result.text)}`, true);
  return false;
}

async function save(result, caption) {
  if (result.cut) return refuse(result);
  const answer = await send("save", { image: result.name, before: result.digest, caption });
  if (answer.conflict) {
    Object.assign(result, { text: answer.text, cut: answer.cut, digest: answer.digest });
    if (result.cut) return refuse(result);
    say(`Somebody else changed this caption meanwhile. It now says: ${short(answer.text)} — save once more to put yours in its place.`, true);
    return false;
  }
  if (!answer.ok) {
    say(answer.error, true);
    return false;
  }
  Object.assign(result, { text: caption, cut: undefined, digest: answer.digest, edited: answer.digest !== result.made, review: "accepted", hay: undefined });
  return true;
}

async function judge(result, verdict) {
  const answer = await send("judge", { image: result.name, digest: result.digest, verdict });
  if (!answer.ok) {
    say(answer.error, true);
    return false;
  }
  result.review = verdict;
  return true;
}

async function decide(verdict) {
  const result = shown[open];
  const before = { result, text: result.text, review: result.review };
  const changed = plain(text.value) !== plain(result.text);
  const done = await attempt(() =>
    changed && verdict === "accepted" ? save(result, text.value.trim()) : judge(result, verdict)
  );
  if (!done) return;
  undone.push(before);
  byId("undo").disabled = false;
  renew();
  byId("accept").focus(); // the keys are for the next picture again
  next();
}

async function undo() {
  const last = undone.pop();
  byId("undo").disabled = !undone.length;
  if (!last) return;
  const { result } = last;
  const done = await attempt(async () => {
    if (result.text !== last.text && !(await save(result, last.text))) return false;
    return result.review === last.review || judge(result, last.review);
  });
  if (!done) return;
  renew();
  const place = shown.indexOf(result);
  if (place >= 0) enlarge(place);
  say(`Taken back: ${result.name}`);
}

function next() {
  const later = shown.findIndex((r, place) => place > open && r.review === "open");
  const place = later >= 0 ? later : shown.findIndex((r) => r.review === "open");
  if (place >= 0) enlarge(place);
  else say("Nothing here is left to review.");
}

function renew() {
  // the pictures stay in their places while one goes through them
  countKinds();
  for (const [place, item] of [...list.querySelectorAll("li")].entries()) {
    const result = shown[place];
    item.querySelector("p").textContent = short(result.text);
    item.querySelector(".marks").replaceWith(marks(result));
  }
}

large.addEventListener("enlarged", (event) => {
  text.value = event.detail.text;
  text.readOnly = Boolean(event.detail.cut); // or what is not here would be lost
  const verdicts = { accepted: "Accepted.", again: "The next run captions it again.", open: "" };
  say(verdicts[event.detail.review] ?? "");
});
byId("save").addEventListener("click", () => decide("accepted"));
byId("accept").addEventListener("click", () => { text.value = shown[open].text; decide("accepted"); });
byId("again").addEventListener("click", () => decide("again"));
byId("undo").addEventListener("click", undo);
byId("unreviewed").addEventListener("click", next);
large.addEventListener("keydown", (event) => {
  if (event.target === text) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) decide("accepted");
    if (event.key === "Escape") { event.preventDefault(); byId("save").focus(); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    a: () => byId("accept").click(),
    r: () => decide("again"),
    e: () => { event.preventDefault(); text.focus(); },
    u: undo,
    n: next,
  };
  keys[event.key]?.();
});

async function look() {
  try {
    const answer = await fetch("busy");
    byId("busy").hidden = !(await answer.json()).busy;
  } catch {
    byId("busy").textContent = "The review does not answer any more: start it again.";
    byId("busy").hidden = false;
  }
}
look();
setInterval(look, 5000);
