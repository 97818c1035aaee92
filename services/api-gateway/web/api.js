// Calls to the edge, and the identity they carry. It lives in this tab only.

const STORE = "streamgate.identity";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.reason = body.reason || "";
    this.unmet = body.unmet || [];
    this.fields = body.errors || [];
    this.requestId = body.request_id || "";
  }

  // What went wrong and what to do, for a person.
  get advice() {
    const id = this.status >= 500 && this.requestId ? ` (request ${this.requestId})` : "";
    const cures = { 0: " Check your connection.", 401: " Sign in again.", 413: " Choose a smaller file.", 429: " Wait a moment and try again.", 503: " Try again in a moment." };
    const fields = this.fields.map((f) => `${f.field} ${f.description}`).join("; ");
    const text = this.fields.length && !this.message.includes(this.fields[0].description) ? `${this.message}: ${fields}` : this.message;
    return `${text.replace(/[.\s]*$/, ".")}${cures[this.status] || ""}${id}`;
  }
}

export function identity() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE));
  } catch {
    return null;
  }
}

export function setIdentity(value) {
  if (value) sessionStorage.setItem(STORE, JSON.stringify(value));
  else sessionStorage.removeItem(STORE);
}

export function bearer() {
  const known = identity();
  return known ? { Authorization: `Bearer ${known.token}` } : {};
}

let renewing = null;

async function renew() {
  const known = identity();
  if (!known?.refresh) return false;
  renewing ??= raw("POST", "/api/v1/auth/refresh", { refresh_token: known.refresh }, {})
    .then((fresh) => { setIdentity(fromTokens(fresh)); return true; })
    .catch((problem) => { if (problem.status === 401) setIdentity(null); return false; })
    .finally(() => { renewing = null; });
  return renewing;
}

export function fromTokens(answer) {
  return { token: answer.access_token, refresh: answer.refresh_token, wallet: answer.account?.wallet || "", role: answer.account?.role || "" };
}

async function raw(method, path, body, headers) {
  const init = { method, headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Problem(0, { title: "The server can't be reached", reason: "offline" });
  }
  const text = await answer.text();
  let json = {};
  try { json = text ? JSON.parse(text) : {}; } catch { /* no JSON: the status says enough */ }
  if (!answer.ok) throw new Problem(answer.status, json);
  return json;
}

// One call; an access token that has run out is renewed once.
export async function call(method, path, body, headers = {}) {
  try {
    return await raw(method, path, body, { ...bearer(), ...headers });
  } catch (problem) {
    if (problem.status !== 401 || !(await renew())) throw problem;
    return raw(method, path, body, { ...bearer(), ...headers });
  }
}

// Shows a text in a live region; an empty one hides it.
export function note(element, text, kind = "") {
  element.textContent = text;
  element.className = `note ${kind}`;
  element.hidden = !text;
}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function short(wallet) {
  const address = wallet.split(":").pop();
  return address.length > 14 ? `${address.slice(0, 6)}…${address.slice(-4)}` : address;
}

export const wait = (ms) => new Promise((done) => setTimeout(done, ms));
