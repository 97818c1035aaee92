//! The main job on the real binaries, in every form of the platform.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_integration::demo::{self, Outcome};
use streamgate_testkit::{Shape, default_clip};

async fn a_gated_video_plays_for_its_holder_until_the_token_leaves_and_for_nobody_else(shape: Shape) {
    assert_eq!(demo::check(&default_clip(), shape).await.unwrap(), Outcome::Held);
}

#[tokio::test]
async fn one_process_does_the_main_job() {
    a_gated_video_plays_for_its_holder_until_the_token_leaves_and_for_nobody_else(Shape::OneProcess).await;
}

#[tokio::test]
async fn nine_processes_do_the_main_job() {
    a_gated_video_plays_for_its_holder_until_the_token_leaves_and_for_nobody_else(Shape::NineProcesses).await;
}

#[tokio::test]
async fn nine_processes_on_real_engines_do_the_main_job() {
    a_gated_video_plays_for_its_holder_until_the_token_leaves_and_for_nobody_else(Shape::NineOnEngines).await;
}
