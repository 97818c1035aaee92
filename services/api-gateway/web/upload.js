// Sends a file, piece by piece, and goes on from the durable offset when the connection breaks.

import { Problem, bearer, call, wait } from "./api.js";

const PIECE = 16 * 1024 * 1024;
const TRIES = 8;

// Begins or goes on with an upload. `onProgress(sent, total, note)` is called as bytes leave.
export async function upload(file, { signal, onProgress, onBegin }) {
  const key = `${file.name}:${file.size}:${file.lastModified}`;
  const { upload: begun } = await call("POST", "/api/v1/uploads", { filename: file.name, size_bytes: String(file.size), request_id: await requestId(key) });
  if (begun.state === "UPLOAD_STATE_COMPLETED") return finish(key, begun);
  if (begun.state !== "UPLOAD_STATE_OPEN") {
    forget(key);
    return upload(file, { signal, onProgress, onBegin });
  }
  onBegin?.(begun);
  const stop = () => { forget(key); call("DELETE", `/api/v1/uploads/${begun.upload_id}`).catch(() => {}); };
  let offset = Number(begun.offset_bytes);
  let failures = 0;
  while (offset < file.size) {
    try {
      const from = offset;
      offset = await send(begun.upload_id, file.slice(from, from + PIECE), from, signal, (sent) => onProgress(from + sent, file.size, ""));
      failures = 0;
    } catch (problem) {
      if (signal.aborted) { stop(); throw problem; }
      if (!passing(problem) || ++failures > TRIES) throw problem;
      onProgress(offset, file.size, "Connection lost, trying again…");
      await wait(Math.min(500 * 2 ** failures, 15000));
      offset = await durable(begun.upload_id, offset);
    }
  }
  return finish(key, await complete(begun.upload_id));
}

// A long file takes longer to close than a call may take; asking again finds it done.
async function complete(id) {
  for (let failures = 0; ; failures++) {
    try {
      return (await call("POST", `/api/v1/uploads/${id}/complete`, {})).upload;
    } catch (problem) {
      const waits = problem.reason === "upload_busy" || problem.status === 0 || [502, 503, 504].includes(problem.status);
      if (!waits || failures > 10 * TRIES) throw problem;
      await wait(Math.min(500 * 2 ** failures, 5000));
    }
  }
}

const passing = (problem) => [0, 401, 408, 409, 429].includes(problem.status) || problem.status >= 500;

async function durable(id, otherwise) {
  try {
    return Number((await call("GET", `/api/v1/uploads/${id}`)).upload.offset_bytes);
  } catch (problem) {
    if (passing(problem)) return otherwise;
    throw problem;
  }
}

// The same file goes on with the same upload, also after a reload of the page.
async function requestId(key) {
  const name = `streamgate.upload.${key}`;
  const known = localStorage.getItem(name);
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const fresh = "web-" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  localStorage.setItem(name, fresh);
  return fresh;
}

function forget(key) {
  localStorage.removeItem(`streamgate.upload.${key}`);
}

function finish(key, done) {
  forget(key);
  return done;
}

// XMLHttpRequest, as fetch does not tell how much of a body has left.
function send(id, piece, offset, signal, onSent) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("PATCH", `/api/v1/uploads/${encodeURIComponent(id)}`);
    for (const [name, value] of Object.entries(bearer())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.setRequestHeader("Upload-Offset", String(offset));
    request.upload.onprogress = (event) => onSent(event.loaded);
    request.onload = () => {
      if (request.status === 204) return done(Number(request.getResponseHeader("Upload-Offset")));
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* no JSON: the status says enough */ }
      fail(new Problem(request.status, body));
    };
    request.onerror = () => fail(new Problem(0, { title: "The connection broke" }));
    request.onabort = () => fail(new Problem(0, { title: "The upload was cancelled" }));
    request.onloadend = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort);
    request.send(piece);
  });
}
