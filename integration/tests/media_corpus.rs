//! Real and damaged files: each ends as a ladder or as a named refusal, and the platform never notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "tests")]

use std::{fs, path::PathBuf};

use streamgate_integration::stage::{Stage, settled};
use streamgate_testkit::shared_media;

/// Files that no ladder can be made of.
const HOPELESS: [&str; 8] = [
    "empty.mp4",
    "ftyp-then-garbage.mp4",
    "garbage.mp4",
    "no-streams.mp4",
    "text.mp4",
    "truncated-6k.mkv",
    "truncated-moov-missing.mp4",
    "s1.srt",
];

/// Files that may be refused or become a ladder: damaged in part, or HDR, which is refused by name.
const EITHER: [&str; 4] = ["bitflips.mp4", "hevc10-hdr10.mp4", "truncated-faststart.mp4", "s2.vtt"];

fn corpus() -> Vec<PathBuf> {
    let Some(folder) = shared_media() else {
        eprintln!("skipped: there is no folder of further media beside the repository");
        return Vec::new();
    };
    let folders = ["real", "made"].map(|name| folder.join(name));
    let mut files: Vec<PathBuf> =
        folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn every_file_ends_as_a_ladder_or_as_a_named_refusal() {
    let mut stage = Stage::start().await.unwrap();
    let processes = stage.platform.process_ids();
    let mut wrong = Vec::new();
    let mut waiting = Vec::new();
    for file in corpus() {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let sent = stage.creator.try_upload(&file, &name).await.unwrap();
        if matches!(sent.status, 200 | 201) {
            waiting.push((name, sent.json().unwrap()["content_id"].as_str().unwrap().to_owned()));
        } else if sent.reason().is_empty() || !HOPELESS.contains(&name.as_str()) {
            wrong.push(format!("{name}: the upload answered {} {}", sent.status, sent.text()));
        }
    }
    for (name, content_id) in waiting {
        let ended = settled(&stage.creator, &content_id).await.unwrap();
        let reason = ended["error"]["reason"].as_str().unwrap_or_default();
        println!("{name}: {} {reason}", ended["status"].as_str().unwrap());
        let hopeless = HOPELESS.contains(&name.as_str());
        match ended["status"].as_str().unwrap() {
            "ready" if hopeless => wrong.push(format!("{name} became a ladder")),
            "errored" if reason.is_empty() => wrong.push(format!("{name} was refused without a reason")),
            "errored" if !hopeless && !EITHER.contains(&name.as_str()) => {
                wrong.push(format!("{name} was refused: {}", ended["error"]));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(stage.platform.is_running().unwrap(), "the platform ended");
    assert_eq!(stage.platform.process_ids(), processes, "the platform was restarted");
}
