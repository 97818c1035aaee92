//! An engine goes away while a title is made and played: answers are right or say "not now", and everything catches up.
//! `just rounds engine` runs many more of these.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_integration::rounds::{Arena, EnginePlan};
use streamgate_testkit::Shape;

#[tokio::test]
async fn an_engine_that_goes_away_costs_patience_and_nothing_else() {
    let mut arena = Arena::start(Shape::NineOnEngines).await.unwrap();
    // PostgreSQL frozen, NATS without its store, S3 killed.
    for (engine, seed) in [("postgres", 2), ("nats", 3), ("s3", 1)] {
        let plan = EnginePlan::of(engine, seed);
        if let Err(error) = Box::pin(arena.engine_round(plan)).await {
            panic!("{plan}: {error:#}\n{}", arena.output());
        }
    }
}
