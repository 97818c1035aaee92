//! The pages in a real browser with a wallet, on a phone and on a desktop.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::{Command, Stdio};

use streamgate_integration::stage::{Stage, ready};
use streamgate_testkit::{default_clip, repository};

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_let_a_holder_watch_refuse_a_stranger_and_end_when_the_token_moves() {
    let stage = Stage::start().await.unwrap();
    let published = stage.publish(&default_clip()).await.unwrap();
    let pass = stage.pass.mint(stage.holder.address()).await.unwrap();
    ready(&stage.creator, &published.content_id).await.unwrap();
    let output = Command::new("node")
        .arg(repository().join("integration/pages/pages.mjs"))
        .args([stage.platform.url(), stage.anvil.url(), published.playback_id, stage.pass.address(), pass.to_string()])
        .arg(stage.creator.bearer().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
