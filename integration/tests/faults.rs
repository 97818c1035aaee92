//! What can be wrong with a machine is one clear sentence, and loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

use std::{fs, net::TcpListener, path::Path, process::Command};

use streamgate_integration::{
    rest::Rest,
    stage::{Stage, ready},
    walk::whole_title,
};
use streamgate_testkit::{Anvil, Platform, Shape, Wallet, default_clip, eventually, free_port};

/// Runs `serve` to its end, which must come soon, and gives its exit code and what it said.
fn refuses_to_serve(platform: &Platform) -> (i32, String) {
    let limited = platform.command(&["serve"]).unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").arg(limited.get_program()).args(limited.get_args());
    for (name, value) in limited.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), said)
}

/// The sentences that are not log lines: exactly one is wanted.
fn assert_one_sentence(said: &str, words: &str) {
    let hits = said.lines().filter(|line| line.contains(words)).count();
    assert!(hits >= 1, "{words:?} is not in: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.lines().count() <= 3, "more than a sentence: {said}");
}

#[tokio::test]
async fn a_taken_port_is_one_sentence() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let platform = Platform::builder().shape(Shape::OneProcess).gateway_port(port).prepare().unwrap();
    let (code, said) = refuses_to_serve(&platform);
    assert_ne!(code, 0);
    assert_one_sentence(&said, &port.to_string());
}

#[tokio::test]
async fn an_unknown_setting_is_one_sentence_and_exit_code_64() {
    let platform = Platform::builder().shape(Shape::OneProcess).env("STREAMGATE_UPLOAD__COLOUR", "green").prepare().unwrap();
    let (code, said) = refuses_to_serve(&platform);
    assert_eq!(code, 64, "{said}");
    assert_one_sentence(&said.to_lowercase(), "colour");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_one_sentence() {
    let platform = Platform::builder().shape(Shape::OneProcess).data_dir("/proc/streamgate").prepare().unwrap();
    let (code, said) = refuses_to_serve(&platform);
    assert_ne!(code, 0);
    assert_one_sentence(&said, "/proc/streamgate");
}

/// A small file system of its own, for the disk to be full in. Needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_upload_and_keeps_what_was_there() {
    let Some(disk) = SmallDisk::mount("64m") else {
        eprintln!("skipped: a small disk needs root");
        return;
    };
    let mut stage = Stage::start_with(Platform::builder().data_dir(disk.path().join("data"))).await.unwrap();
    let published = stage.publish_ready(&default_clip()).await.unwrap();
    let session = stage.viewer().await.unwrap().session(&published.playback_id).await.unwrap();
    let before = whole_title(&stage.anonymous(), &session).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big.mp4");
    fs::write(&big, vec![7_u8; 80 * 1024 * 1024]).unwrap();
    let refused = stage.creator.try_upload(&big, "too big").await.unwrap().expect(507).unwrap();
    assert_eq!(refused.reason(), "storage_full", "{}", refused.text());

    assert!(stage.platform.is_running().unwrap());
    let after = whole_title(&stage.anonymous(), &session).await.unwrap();
    assert_eq!(before.media_bytes(), after.media_bytes());
}

#[tokio::test]
async fn while_a_chain_cannot_be_read_nothing_opens_and_afterwards_everything_does() {
    let stage = Stage::start().await.unwrap();
    let published = stage.publish_ready(&default_clip()).await.unwrap();
    let viewer = stage.viewer().await.unwrap();
    let Stage { platform, anvil, creator, .. } = stage;
    drop(anvil);

    let refused = viewer.try_session(&published.playback_id).await.unwrap().expect(503).unwrap();
    assert_eq!(refused.reason(), "ownership_unknown", "{}", refused.text());
    assert!(!refused.header("retry-after").is_empty(), "no Retry-After");

    // The owner is not asked for a token, and can play.
    creator.session(&published.playback_id).await.unwrap();
    drop(platform);
}

#[tokio::test]
async fn a_chain_that_comes_back_is_used_again_without_a_restart() {
    let port = free_port().unwrap();
    let platform = Platform::builder().chain(31_337, format!("http://127.0.0.1:{port}")).start().await.unwrap();
    let creator = Rest::new(&platform.url()).unwrap().with_bearer(platform.api_key("creator").unwrap());
    let sent = creator.upload(&default_clip(), "early").await.unwrap();
    let content_id = sent["content_id"].as_str().unwrap();
    let playback_id = ready(&creator, content_id).await.unwrap()["playback_ids"][0].as_str().unwrap().to_owned();

    let anvil = Anvil::start_on(port).await.unwrap();
    let (minter, holder) = (Wallet::dev(0).unwrap(), Wallet::dev(1).unwrap());
    let pass = anvil.node().deploy_demo_pass(minter.address()).await.unwrap();
    pass.mint(holder.address()).await.unwrap();
    creator.set_gate(content_id, &pass.gate(anvil.chain_id())).await.unwrap();
    let viewer = creator.anonymous().sign_in(&holder).await.unwrap();
    eventually("the chain is read again", std::time::Duration::from_secs(60), || async {
        Ok((viewer.try_session(&playback_id).await?.status == 200).then_some(()))
    })
    .await
    .unwrap();
}
