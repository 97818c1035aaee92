// Plays a session: hls.js with the token as bearer, or the browser's own HLS with the token in the URL.

// `onEnded(status)` is called once when playback can't go on, with the status that ended it.
export function play(video, session, playbackId, onEnded) {
  let over = false;
  let hls = null;
  const end = (status) => {
    if (over) return;
    over = true;
    hls?.destroy();
    video.removeAttribute("src");
    video.load();
    onEnded(status);
  };
  if (window.Hls?.isSupported()) {
    hls = new window.Hls({
      // fMP4 needs no remuxing, and a worker from a blob would need a weaker policy.
      enableWorker: false,
      xhrSetup: (request) => request.setRequestHeader("Authorization", `Bearer ${session.token}`),
    });
    hls.on(window.Hls.Events.ERROR, (_, data) => {
      const status = data.response?.code || 0;
      if (status === 401 || status === 403 || status === 404) end(status);
      else if (data.fatal && data.type === window.Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
      else if (data.fatal) end(status);
    });
    hls.loadSource(`/play/${encodeURIComponent(playbackId)}.m3u8`);
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
  return () => { over = true; hls?.destroy(); };
}
