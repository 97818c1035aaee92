// The studio: sign in, upload, see the titles.

import { call, identity, make, note, setIdentity, short } from "./api.js";
import * as titles from "./titles.js";
import { upload } from "./upload.js";
import { connect, sign, watchWallets } from "./wallet.js";

const by = (id) => document.getElementById(id);
const sections = { signIn: by("sign-in"), upload: by("upload"), titles: by("titles") };
let connected = null;

function arrange() {
  const known = identity();
  sections.signIn.hidden = Boolean(known);
  sections.upload.hidden = sections.titles.hidden = !known;
  by("sign-out").hidden = !known;
  by("who").textContent = known ? (known.wallet ? `${short(known.wallet)} · ${known.role}` : "API key") : "";
  if (known) titles.start();
  else titles.stop();
}

function showWallets(wallets) {
  if (connected) return;
  const buttons = wallets.map((wallet) => {
    const icon = wallet.icon ? [make("img", { src: wallet.icon, alt: "" })] : [];
    return make("button", { type: "button", class: "main", onclick: () => tapConnect(wallet) }, ...icon, `Connect ${wallet.name}`);
  });
  const none = make("p", { class: "soft" }, "No wallet was found in this browser. Install one, or use an API key.");
  by("wallets").replaceChildren(...(buttons.length ? buttons : [none]));
}

async function tapConnect(wallet) {
  note(by("sign-in-note"), "Waiting for the wallet…");
  try {
    connected = await connect(wallet);
    note(by("sign-in-note"), `Connected ${short(connected.address)}. Now sign the message to prove that it is yours; it costs nothing.`);
    const button = make("button", { type: "button", class: "main", onclick: tapSign }, "Sign in");
    const other = make("button", { type: "button", class: "text", onclick: () => { connected = null; note(by("sign-in-note"), ""); watchWallets(showWallets); } }, "Use another wallet");
    by("wallets").replaceChildren(button, other);
    button.focus();
  } catch (problem) {
    note(by("sign-in-note"), problem.advice, "bad");
  }
}

async function tapSign() {
  try {
    const known = await sign(connected);
    connected = null;
    note(by("sign-in-note"), "");
    arrange();
    if (known.role === "viewer") note(by("upload-note"), "This account may watch but not upload. Ask an operator for the role creator.");
  } catch (problem) {
    note(by("sign-in-note"), problem.advice, "bad");
  }
}

by("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setIdentity({ token: by("key").value.trim() });
  try {
    await call("GET", "/api/v1/contents?page_size=1");
    by("key").value = "";
    note(by("sign-in-note"), "");
    arrange();
  } catch (problem) {
    setIdentity(null);
    note(by("sign-in-note"), problem.status === 401 ? "This key is not known. Check it, or make a new one with “streamgate apikey create”." : problem.advice, "bad");
  }
});

by("sign-out").addEventListener("click", () => {
  const known = identity();
  if (known?.refresh) call("POST", "/api/v1/auth/logout", { refresh_token: known.refresh }).catch(() => {});
  setIdentity(null);
  arrange();
  watchWallets(showWallets);
});

addEventListener("streamgate:signed-out", () => {
  setIdentity(null);
  arrange();
  note(by("sign-in-note"), "Your sign-in has ended. Sign in again to go on.");
});

let sending = null;

async function take(file) {
  if (!file || sending) return;
  sending = new AbortController();
  note(by("upload-note"), "");
  by("drop").hidden = true;
  by("sending").hidden = false;
  by("sending-name").textContent = file.name;
  const began = Date.now();
  const onProgress = (sent, total, text) => {
    by("sending-bar").value = total ? sent / total : 0;
    const left = sent > 0 ? ((Date.now() - began) / sent) * (total - sent) : 0;
    by("sending-text").textContent = text || `${size(sent)} of ${size(total)}${left > 2000 ? ` · ${duration(left)} left` : ""}`;
  };
  onProgress(0, file.size, "Starting…");
  try {
    await upload(file, { signal: sending.signal, onProgress, onBegin: titles.refresh });
    note(by("upload-note"), `${file.name} is uploaded and is being made into a stream. You can close this page.`, "good");
  } catch (problem) {
    const cure = sending.signal.aborted ? "" : " What was sent is kept: choose the same file to go on.";
    note(by("upload-note"), (problem.advice || String(problem)) + cure, sending.signal.aborted ? "" : "bad");
  }
  sending = null;
  by("drop").hidden = false;
  by("sending").hidden = true;
  by("file").value = "";
  titles.refresh();
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power > 1 ? 1 : 0)} ${units[power]}`;
}

function duration(ms) {
  const seconds = Math.round(ms / 1000);
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

const drop = by("drop");
by("file").addEventListener("change", () => take(by("file").files[0]));
by("sending-stop").addEventListener("click", () => sending?.abort());
for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });

call("GET", "/api/v1/version").then((answer) => { by("version").textContent = `StreamGate ${answer.version}`; }).catch(() => {});
arrange();
watchWallets(showWallets);
