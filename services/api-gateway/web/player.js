// Plays a session: hls.js with the token as bearer, or the browser's own HLS with the token in the URL.

// A player that has buffered to the end asks for nothing more; without this it would play on after the gate has closed.
const ASK_AGAIN_MS = 4000;

// `onEnded(status)` is called once when playback can't go on, with the status that ended it.
export function play(video, session, playbackId, onEnded) {
  let over = false;
  let hls = null;
  let heard = Date.now();
  const asking = setInterval(ask, ASK_AGAIN_MS / 2);
  const entry = `/play/${encodeURIComponent(playbackId)}.m3u8`;
  const credential = { Authorization: `Bearer ${session.token}` };
  async function ask() {
    if (over || video.paused || Date.now() - heard < ASK_AGAIN_MS) return;
    heard = Date.now();
    const answer = await fetch(entry, { method: "HEAD", headers: credential, cache: "no-store" }).catch(() => null);
    if (answer?.status === 401 || answer?.status === 403) end(answer.status);
  }
  const end = (status) => {
    if (over) return;
    over = true;
    clearInterval(asking);
    hls?.destroy();
    video.removeAttribute("src");
    video.load();
    onEnded(status);
  };
  if (window.Hls?.isSupported()) {
    hls = new window.Hls({
      // fMP4 needs no remuxing, and a worker from a blob would need a weaker policy.
      enableWorker: false,
      xhrSetup: (request) => request.setRequestHeader("Authorization", credential.Authorization),
    });
    hls.on(window.Hls.Events.ERROR, (_, data) => {
      const status = data.response?.code || 0;
      if (status === 401 || status === 403 || status === 404) end(status);
      else if (data.fatal && data.type === window.Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
      else if (data.fatal) end(status);
    });
    hls.on(window.Hls.Events.FRAG_LOADED, () => { heard = Date.now(); });
    hls.loadSource(entry);
    hls.attachMedia(video);
  } else if (video.canPlayType("application/vnd.apple.mpegurl")) {
    video.addEventListener("error", () => end(0), { once: true });
    video.src = session.hls_url;
  } else {
    end(-1);
    return () => {};
  }
  // Browsers may want a tap before sound; the controls are there for it.
  video.play().catch(() => {});
  return () => { over = true; clearInterval(asking); hls?.destroy(); };
}
