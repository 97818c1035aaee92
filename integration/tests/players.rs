//! Real players in a real browser, through forced switches of level, to the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use streamgate_integration::{rest::Session, stage::Stage, tools::ffmpeg};
use streamgate_testkit::repository;

fn clip(file: &Path) {
    let file = file.to_str().unwrap();
    let sources = ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=14", "-f", "lavfi", "-i", "sine=f=440:r=48000:d=14"];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest", file];
    ffmpeg(&[sources.as_slice(), codecs.as_slice()].concat()).unwrap();
}

fn plays_to_the_end(player: &str, url: &str) {
    let output = Command::new("node")
        .arg(repository().join("integration/players/play.mjs"))
        .args([player, url])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.trim());
    assert!(output.status.success(), "{player}: {said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_dash_js_and_shaka_play_to_the_end_through_switches_up_and_down() {
    let stage = Stage::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    clip(&file);
    let published = stage.publish_ready(&file).await.unwrap();
    let Session { hls_url, dash_url, .. } = stage.viewer().await.unwrap().session(&published.playback_id).await.unwrap();
    plays_to_the_end("hls", hls_url.as_str());
    plays_to_the_end("dash", dash_url.as_str());
    plays_to_the_end("shaka", dash_url.as_str());
    plays_to_the_end("shaka", hls_url.as_str());
}
