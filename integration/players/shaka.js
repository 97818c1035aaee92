// Drives shaka-player: begins at the lowest level, goes up, comes down again.
window.state = { fatal: "", heights: [], switches: 0 };
window.begin = async (url) => {
  const video = document.getElementById("video");
  video.addEventListener("resize", () => window.state.heights.push(video.videoHeight));
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  await player.attach(video);
  player.configure({ abr: { enabled: false, defaultBandwidthEstimate: 1 }, streaming: { bufferingGoal: 4, rebufferingGoal: 1 } });
  player.addEventListener("error", (event) => {
    if (event.detail.severity === shaka.util.Error.Severity.CRITICAL) window.state.fatal = `${event.detail.category} ${event.detail.code}`;
  });
  const choose = (pick) => {
    const tracks = player.getVariantTracks().sort((a, b) => a.height - b.height);
    player.selectVariantTrack(pick(tracks), true, 1);
    window.state.switches += 1;
  };
  at(video, 3, () => choose((tracks) => tracks[tracks.length - 1]));
  at(video, 8, () => choose((tracks) => tracks[0]));
  try {
    await player.load(url);
    choose((tracks) => tracks[0]);
    await video.play();
  } catch (error) {
    window.state.fatal = `${error.category ?? ""} ${error.code ?? error.message}`;
  }
};

function at(video, second, action) {
  const check = () => {
    if (video.currentTime < second) return;
    video.removeEventListener("timeupdate", check);
    action();
  };
  video.addEventListener("timeupdate", check);
}
