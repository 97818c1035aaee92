//! The main job on the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_integration::demo::{self, Outcome};
use streamgate_testkit::default_clip;

#[tokio::test]
async fn a_gated_video_plays_for_its_holder_until_the_token_leaves_and_for_nobody_else() {
    assert_eq!(demo::check(&default_clip()).await.unwrap(), Outcome::Held);
}
