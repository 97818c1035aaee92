// Drives dash.js: begins at the lowest level, goes up, comes down again.
window.state = { fatal: "", heights: [], switches: 0 };
window.begin = (url) => {
  const video = document.getElementById("video");
  video.addEventListener("resize", () => window.state.heights.push(video.videoHeight));
  const player = dashjs.MediaPlayer().create();
  player.updateSettings({
    streaming: {
      abr: { autoSwitchBitrate: { video: false }, initialBitrate: { video: 100 } },
      buffer: { fastSwitchEnabled: true, bufferTimeDefault: 4, bufferTimeAtTopQuality: 4, bufferTimeAtTopQualityLongForm: 4 },
    },
  });
  player.on(dashjs.MediaPlayer.events.ERROR, (event) => (window.state.fatal = `${event.error.code} ${event.error.message}`));
  player.on(dashjs.MediaPlayer.events.QUALITY_CHANGE_RENDERED, (event) => {
    if (event.mediaType === "video") window.state.switches += 1;
  });
  const choose = (pick) => {
    const levels = [...player.getRepresentationsByType("video")].sort((a, b) => a.bandwidth - b.bandwidth);
    player.setRepresentationForTypeById("video", pick(levels).id, true);
  };
  at(video, 3, () => choose((levels) => levels[levels.length - 1]));
  at(video, 8, () => choose((levels) => levels[0]));
  player.initialize(video, url, true);
};

function at(video, second, action) {
  const check = () => {
    if (video.currentTime < second) return;
    video.removeEventListener("timeupdate", check);
    action();
  };
  video.addEventListener("timeupdate", check);
}
