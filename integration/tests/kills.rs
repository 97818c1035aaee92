//! One of the nine is killed while a title is made and played: nothing is lost, doubled or shown to strangers.
//! `just rounds kill` runs many more of these.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_integration::rounds::{Arena, Plan};
use streamgate_testkit::Shape;

#[tokio::test]
async fn a_service_that_is_killed_on_the_way_loses_and_doubles_nothing_and_opens_no_gate() {
    let mut arena = Arena::start(Shape::NineOnEngines).await.unwrap();
    for (service, seed) in [("upload", 0), ("transcoder", 1), ("metadata", 2)] {
        let plan = Plan::of(service, seed);
        if let Err(error) = arena.round(plan).await {
            panic!("{plan}: {error:#}\n{}", arena.output());
        }
    }
}
