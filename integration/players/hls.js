// Drives hls.js: begins at the lowest level, goes up, comes down again.
window.state = { fatal: "", heights: [], switches: 0 };
window.begin = (url) => {
  const video = document.getElementById("video");
  watchHeights(video);
  const hls = new Hls({ startLevel: 0, maxBufferLength: 4, maxMaxBufferLength: 4 });
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (data.fatal) window.state.fatal = `${data.type} ${data.details}`;
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, () => (window.state.switches += 1));
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    at(video, 3, () => (hls.nextLevel = hls.levels.length - 1));
    at(video, 8, () => (hls.nextLevel = 0));
    video.play();
  });
  hls.loadSource(url);
  hls.attachMedia(video);
};

function at(video, second, action) {
  const check = () => {
    if (video.currentTime < second) return;
    video.removeEventListener("timeupdate", check);
    action();
  };
  video.addEventListener("timeupdate", check);
}

function watchHeights(video) {
  video.addEventListener("resize", () => window.state.heights.push(video.videoHeight));
}
