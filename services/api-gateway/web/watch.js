// The watch page: what the gate asks for, a wallet, and then the video.

import { call, identity, make, setIdentity, short, wait } from "./api.js";
import { play } from "./player.js";
import { connect, sign, watchWallets } from "./wallet.js";

const by = (id) => document.getElementById(id);
const playbackId = decodeURIComponent(location.pathname.split("/")[2] || "");
const STEPS = { connect: 0, sign: 1, check: 2, play: 3 };
let info = null;
let session = null;
let stopPlayer = () => {};
let listing = false;

function card({ title, text = "", list = [], actions = [], step }) {
  by("stage").hidden = true;
  by("card").hidden = false;
  by("card-title").textContent = title;
  by("card-text").textContent = text;
  by("card-text").hidden = !text;
  by("card-list").replaceChildren(...list.map((line) => make("li", {}, line)));
  by("card-list").hidden = !list.length;
  by("card-actions").replaceChildren(...actions);
  by("steps").hidden = step === undefined;
  [...by("steps").children].forEach((item, place) => {
    if (place === STEPS[step]) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
}

const button = (text, onclick, kind = "main") => make("button", { type: "button", class: kind, onclick }, text);

function who() {
  const known = identity();
  by("who").textContent = known ? (known.wallet ? short(known.wallet) : "API key") : "";
  by("sign-out").hidden = !known;
}

async function begin() {
  who();
  try {
    info = await call("GET", `/api/v1/playback/${encodeURIComponent(playbackId)}`);
  } catch (problem) {
    if (problem.status === 404) return card({ title: "There is no such video", text: "The link may be mistyped, or the video was taken away." });
    return card({ title: "The video can't be loaded", text: problem.advice, actions: [button("Try again", begin)] });
  }
  by("title").textContent = info.title || "Untitled";
  document.title = `${info.title || "Watch"} · StreamGate`;
  if (!info.playable) return notReady();
  if (info.open || identity()) return check();
  askWallet();
}

async function notReady() {
  card({ title: "Not ready yet", text: "This video is still being prepared. It starts here by itself as soon as its first seconds are there." });
  await wait(3000);
  begin();
}

function askWallet(problem) {
  listing = true;
  watchWallets((wallets) => {
    if (!listing) return;
    const actions = wallets.map((wallet) => {
      const icon = wallet.icon ? [make("img", { src: wallet.icon, alt: "" })] : [];
      return make("button", { type: "button", class: "main", onclick: () => tapConnect(wallet) }, ...icon, `Connect ${wallet.name}`);
    });
    const none = "No wallet was found in this browser. Open this page in a browser with one, such as your wallet app's.";
    card({
      title: info.requirements.length ? "This video is for holders" : "Sign in to watch",
      text: problem?.advice || (wallets.length ? "To watch, show that your wallet meets this:" : none),
      list: info.requirements, actions, step: "connect",
    });
  });
}

async function tapConnect(wallet) {
  listing = false;
  card({ title: "Waiting for your wallet", text: "Choose an account in it.", list: info.requirements, step: "connect", actions: [button("Start over", () => askWallet(), "text")] });
  try {
    askSignature(await connect(wallet));
  } catch (problem) {
    askWallet(problem);
  }
}

function askSignature(connected, problem) {
  const go = button("Sign", async () => {
    go.disabled = true;
    try {
      await sign(connected);
      check();
    } catch (refusal) {
      askSignature(connected, refusal);
    }
  });
  card({
    title: `Connected ${short(connected.address)}`,
    text: problem?.advice || "Now sign a message to prove that this wallet is yours. It costs nothing and moves nothing.",
    list: info.requirements, actions: [go, button("Use another wallet", () => askWallet(), "text")], step: "sign",
  });
  go.focus();
}

async function check() {
  listing = false;
  card({ title: "Checking your access", text: "Reading the chain…", step: "check" });
  who();
  try {
    session = await call("POST", "/api/v1/sessions", { playback_id: playbackId });
  } catch (problem) {
    return refused(problem);
  }
  by("card").hidden = true;
  by("stage").hidden = false;
  by("below").textContent = info.requirements.length ? `To watch: ${info.requirements.join("; ")}. This is checked again while you watch.` : "";
  stopPlayer();
  stopPlayer = play(by("video"), session, playbackId, ended);
  by("video").focus();
}

function refused(problem) {
  who();
  const again = button("Check again", check);
  const other = button("Use another wallet", signOut, "");
  if (problem.status === 401) return askWallet(identity() ? problem : undefined);
  if (problem.status === 403 && problem.reason === "gate_missing") {
    return card({ title: "Not shared yet", text: "The owner has not said who may watch this video.", actions: [again, other] });
  }
  if (problem.status === 403) {
    return card({ title: "This wallet can't watch", text: `${known()} does not meet this:`, list: problem.unmet.length ? problem.unmet : info.requirements, actions: [again, other] });
  }
  if (problem.status === 503) return card({ title: "Your access can't be checked right now", text: "The chain did not answer. This is not a no: try again in a moment.", actions: [button("Try again", check)] });
  card({ title: "The video can't be played", text: problem.advice, actions: [button("Try again", check)] });
}

const known = () => (identity()?.wallet ? short(identity().wallet) : "This account");

// Playback broke off: asks why, as a player sees only a status.
async function ended(status) {
  if (status === -1) return card({ title: "This browser can't play the video", text: "Open the page in a current browser." });
  let reason = "";
  let unmet = [];
  try {
    const answer = await fetch(`/play/${encodeURIComponent(playbackId)}.m3u8`, { headers: { Authorization: `Bearer ${session.token}` }, cache: "no-store" });
    if (answer.ok) return card({ title: "Playback stopped", text: "The connection was lost.", actions: [button("Go on", check)] });
    ({ reason = "", unmet = [] } = await answer.json());
  } catch { /* no answer: said below */ }
  const texts = {
    gate_not_met: "your wallet no longer meets what this video asks for.",
    session_revoked: "your wallet no longer meets what this video asks for.",
    token_expired: "your session ran out.",
    ownership_unknown: "the chain could not be read for a while.",
  };
  card({ title: `Access ended: ${texts[reason] || "the video could not be read any further."}`, list: unmet, actions: [button("Check again", check), button("Use another wallet", signOut, "")] });
  by("card-title").focus();
}

function signOut() {
  stopPlayer();
  setIdentity(null);
  who();
  begin();
}

by("sign-out").addEventListener("click", signOut);
begin();
