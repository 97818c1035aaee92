// The list of titles: status, progress, gate, links.

import { call, make, note } from "./api.js";
import { gateForm, words } from "./gate.js";

const list = document.getElementById("list");
const told = document.getElementById("titles-note");
const rows = new Map();
let token = "";
let timer = 0;
let round = 0;

export function start() {
  document.getElementById("more").onclick = () => load(token);
  refresh();
}

export function stop() {
  clearTimeout(timer);
  rows.clear();
  list.replaceChildren();
}

// Reads the first page again, and goes on while something is in the making.
export async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  const busy = await load("");
  if (mine === round) timer = setTimeout(refresh, document.hidden ? 15000 : busy ? 1500 : 10000);
}

async function load(from) {
  try {
    const query = from ? `?page_token=${encodeURIComponent(from)}` : "";
    const page = await call("GET", `/api/v1/contents${query}`);
    note(told, "");
    if (from || !token) token = page.next_page_token;
    document.getElementById("more").hidden = !token;
    show(page.contents, Boolean(from));
    return page.contents.some((title) => title.status === "processing" || title.status === "uploading");
  } catch (problem) {
    note(told, `Your titles can't be shown. ${problem.advice}`, "bad");
    if (problem.status === 401) dispatchEvent(new Event("streamgate:signed-out"));
    return false;
  }
}

function show(contents, append) {
  let place = append ? null : list.firstElementChild;
  for (const title of contents) {
    const row = rows.get(title.content_id) || add(title);
    row.update(title);
    if (append) list.append(row.element);
    else if (place === row.element) place = place.nextElementSibling;
    else list.insertBefore(row.element, place);
  }
  document.getElementById("empty").hidden = list.children.length > 0;
}

const STATUS = { waiting: "Waiting for its file", uploading: "Uploading", processing: "Processing", ready: "Ready", errored: "Failed" };

function add(first) {
  let title = first;
  const name = make("h3");
  const chip = make("span", { class: "chip" });
  const bar = make("progress", { max: "1" });
  const text = make("p", { class: "small soft" });
  const gate = make("p", { class: "small" });
  const links = make("div", { class: "stack" });
  const said = make("p", { role: "status", "aria-live": "polite", hidden: true });
  const gateBox = make("details", {}, make("summary", {}, "Change who may watch"));
  const linkBox = make("details", {}, make("summary", {}, "Links"), links);
  gateBox.addEventListener("toggle", async () => {
    if (gateBox.open && gateBox.children.length === 1) gateBox.append(await gateForm(title, (next) => { title = { ...title, gate: next }; gate.textContent = words(next); }));
  });
  const watch = make("a", { class: "button" }, "Watch");
  const again = make("button", { type: "button", onclick: () => act(said, "Trying again…", () => call("POST", "/api/v1/transcode/submit", { content_id: title.content_id, request_id: crypto.randomUUID?.() || String(Date.now()) })) }, "Try again");
  const remove = make("button", { type: "button", class: "danger", onclick: () => confirmDelete(remove, said, title, element) }, "Delete");
  const element = make("li", {}, make("div", { class: "row" }, name, chip), bar, text, gate, gateBox, linkBox, make("div", { class: "row" }, watch, again, remove), said);
  const row = { element, update };
  rows.set(title.content_id, row);
  return row;

  function update(next) {
    title = next;
    name.textContent = next.title || "Untitled";
    chip.textContent = next.playable && next.status === "processing" ? "Playable, still processing" : STATUS[next.status] || next.status;
    chip.className = `chip ${next.status}`;
    bar.hidden = next.status !== "processing";
    bar.value = next.progress;
    bar.setAttribute("aria-label", `Processing of ${next.title}`);
    text.textContent = describe(next);
    text.hidden = !text.textContent;
    gate.textContent = words(next.gate);
    again.hidden = next.status !== "errored";
    const playback = next.playback_ids[0];
    watch.hidden = linkBox.hidden = !playback;
    if (playback && links.dataset.id !== playback) fillLinks(links, watch, playback);
  }
}

function describe(title) {
  if (title.status === "errored") return title.error?.detail || "It could not be made into a stream. Try another file.";
  if (title.status === "processing") return `${Math.floor(title.progress * 100)} % done`;
  if (title.status !== "ready") return "";
  const seconds = Math.round(Number(title.duration_ms) / 1000);
  const size = title.width ? ` · ${title.width} × ${title.height}` : "";
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min${size}`;
}

function fillLinks(links, watch, playback) {
  links.dataset.id = playback;
  const base = location.origin;
  watch.href = `/watch/${playback}`;
  const all = [["Page to share", `${base}/watch/${playback}`], ["Playback id", playback], ["HLS", `${base}/play/${playback}.m3u8`], ["DASH", `${base}/play/${playback}.mpd`]];
  links.replaceChildren(...all.map(([text, value]) => {
    const id = `link-${text.replace(/\W/g, "")}-${playback}`;
    const input = make("input", { id, readonly: true, value });
    const copy = make("button", { type: "button", onclick: () => copyText(input, copy) }, "Copy");
    copy.setAttribute("aria-label", `Copy ${text}`);
    return make("div", {}, make("label", { for: id }, text), make("div", { class: "row" }, make("div", { class: "grow" }, input), copy));
  }));
}

async function copyText(input, button) {
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

async function act(said, text, work) {
  note(said, text);
  try {
    await work();
    note(said, "");
    refresh();
    return true;
  } catch (problem) {
    note(said, problem.advice, "bad");
    return false;
  }
}

// Deleting asks once more, in place: the button itself becomes the question.
async function confirmDelete(button, said, title, element) {
  if (button.dataset.sure !== "yes") {
    button.dataset.sure = "yes";
    button.textContent = "Really delete? This can't be undone";
    setTimeout(() => { button.dataset.sure = ""; button.textContent = "Delete"; }, 5000);
    return;
  }
  const gone = await act(said, "Deleting…", () => call("DELETE", `/api/v1/contents/${title.content_id}`));
  if (gone) {
    rows.delete(title.content_id);
    element.remove();
  }
}
