//! Another poster of a title, made when its owner asks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod rig;

use rig::{Rig, caller, operator};
use streamgate_core::{Caller, ErrorKind, Failure, ids::ContentId};
use streamgate_proto::streamgate::transcoder::v1::{
    JobState, MakePosterRequest, MakePosterResponse, transcoder_service_server::TranscoderService as _,
};
use tonic::{Request, Status};

/// A poster, two segments of one rung, and the end.
const GOOD: &str = "probed v360\nposter\nrendition v360\nsegment v360 1\nsegment v360 2\ndone 4000\n";

fn at(content: &str, at_ms: u64) -> MakePosterRequest {
    MakePosterRequest { content_id: content.to_owned(), at_ms }
}

async fn make(rig: &Rig, request: Request<MakePosterRequest>) -> Result<MakePosterResponse, Status> {
    Ok(rig.handler.make_poster(request).await?.into_inner())
}

/// Why the owner gets no poster.
async fn refusal(rig: &Rig, content: &str, at_ms: u64) -> Failure {
    Failure::from(&make(rig, caller("owner", at(content, at_ms))).await.unwrap_err())
}

/// Path and bytes of the poster that is shown.
async fn shown(rig: &Rig, content: &str) -> (String, String) {
    let poster = rig.presentation(content, 0).await.unwrap().poster.unwrap();
    let bytes = rig.media(content, &poster.path).await.unwrap();
    assert_eq!(bytes.len() as u64, poster.size_bytes);
    (poster.path, String::from_utf8(bytes).unwrap())
}

/// A title that was made as `part` says.
async fn made(part: &str) -> (Rig, String) {
    let rig = Rig::start(part).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    (rig, content)
}

async fn a_chosen_frame_takes_the_place_of_the_poster_before() {
    let (rig, content) = made(GOOD).await;
    let revision = rig.presentation(&content, 0).await.unwrap().revision;
    let (first, bytes) = shown(&rig, &content).await;
    assert_eq!(bytes, "first\n");

    let answer = make(&rig, caller("owner", at(&content, 2_500))).await.unwrap();
    let (second, bytes) = shown(&rig, &content).await;
    assert_eq!(bytes, "at 500 of init\nsegment 2\n", "it is made of one segment alone");
    assert_eq!((answer.version, answer.at_ms, answer.size_bytes), (1, 2_500, bytes.len() as u64));
    assert_eq!(rig.media(&content, &first).await, None, "nothing names the old one any more");
    let news = rig.presentation(&content, revision).await.expect("who asks for news gets them");
    assert!(news.revision > revision);

    let again = make(&rig, caller("owner", at(&content, 2_500))).await.unwrap();
    assert_eq!((again, shown(&rig, &content).await.0), (answer, second));
    assert_eq!(rig.presentation(&content, news.revision).await, None, "the same time again changes nothing");

    make(&rig, operator(at(&content, 0))).await.unwrap();
    assert_eq!(shown(&rig, &content).await.1, "at 0 of init\nsegment 1\n");
}

async fn nobody_else_makes_posters_or_learns_that_there_is_a_title() {
    let (rig, content) = made(GOOD).await;
    let before = shown(&rig, &content).await;
    let foreign = Failure::from(&make(&rig, caller("other", at(&content, 0))).await.unwrap_err());
    assert_eq!((foreign.kind, foreign.reason.as_ref()), (ErrorKind::NotFound, "content_unknown"));
    let absent = ContentId::new();
    let absent = Failure::from(&make(&rig, caller("other", at(absent.as_str(), 0))).await.unwrap_err());
    assert_eq!((absent.kind, absent.reason), (foreign.kind, foreign.reason));
    assert_eq!(refusal(&rig, "no id", 0).await.fields[0].field, "content_id");
    assert_eq!(shown(&rig, &content).await, before);
}

async fn a_time_beyond_the_end_is_refused_and_the_end_is_not() {
    let (rig, content) = made(GOOD).await;
    assert_eq!(refusal(&rig, &content, 4_001).await.fields[0].field, "at_ms");
    assert_eq!(refusal(&rig, &content, u64::MAX).await.fields[0].field, "at_ms");
    make(&rig, caller("owner", at(&content, 4_000))).await.unwrap();
    assert_eq!(shown(&rig, &content).await.1, "at 2000 of init\nsegment 2\n");
}

async fn a_title_that_is_only_heard_has_no_poster() {
    let (rig, content) = made("probed a128\nsound a128\nsegment a128 1\ndone 2000\n").await;
    let failure = refusal(&rig, &content, 0).await;
    assert_eq!((failure.kind, failure.reason.as_ref()), (ErrorKind::FailedPrecondition, "no_picture"));
}

async fn a_growing_title_has_posters_of_what_is_there() {
    let mut rig = Rig::start("probed v360\nrendition v360\nsegment v360 1\nhang\n").await;
    let content = rig.upload("owner").await;
    rig.until_segments(&content, 1).await;
    let failure = refusal(&rig, &content, 3_000).await;
    assert_eq!((failure.kind, failure.reason.as_ref()), (ErrorKind::FailedPrecondition, "not_ready"));
    assert!(failure.retry_after.is_some());
    assert_eq!(refusal(&rig, &content, 4_001).await.fields[0].field, "at_ms", "it will never be so long");
    make(&rig, caller("owner", at(&content, 1_000))).await.unwrap();
    rig.stop_worker().await;

    // The poster of the whole title does not take the place of one that was chosen.
    rig.set_part("probed v360\nposter\nrendition v360\nsegment v360 2\ndone 4000\n");
    rig.start_worker();
    rig.until(&content, JobState::Succeeded).await;
    assert_eq!(shown(&rig, &content).await.1, "at 1000 of init\nsegment 1\n");
}

async fn a_frame_that_cannot_be_decoded_leaves_the_poster_as_it_is() {
    let (rig, content) = made(GOOD).await;
    let before = shown(&rig, &content).await;
    rig.go_blind();
    let failure = refusal(&rig, &content, 1_000).await;
    assert_eq!((failure.kind, failure.reason.as_ref()), (ErrorKind::FailedPrecondition, "frame_undecodable"));
    assert_eq!(shown(&rig, &content).await, before);
}

async fn a_poster_that_was_found_outdated_is_not_shown() {
    let (rig, content) = made(GOOD).await;
    let id: ContentId = content.parse().unwrap();
    let owner = Caller::of(&caller("owner", ())).unwrap();
    let frame = rig.engine.frame(&owner, &id, 1_000).await.unwrap();
    make(&rig, caller("owner", at(&content, 2_000))).await.unwrap();
    let chosen = shown(&rig, &content).await;
    let late = rig.engine.replace_poster(&frame, "late.jpg", 1).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Aborted);
    let frame = rig.engine.frame(&owner, &id, 1_000).await.unwrap();
    rig.delete(&content).await;
    let late = rig.engine.replace_poster(&frame, "late.jpg", 1).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Aborted);
    rig.engine.purge().await.unwrap();
    assert_eq!(rig.media(&content, &chosen.0).await, None, "a chosen poster goes with its title");
}

streamgate_testkit::on_both_engines! {
    rig:
    a_chosen_frame_takes_the_place_of_the_poster_before,
    nobody_else_makes_posters_or_learns_that_there_is_a_title,
    a_time_beyond_the_end_is_refused_and_the_end_is_not,
    a_title_that_is_only_heard_has_no_poster,
    a_growing_title_has_posters_of_what_is_there,
    a_frame_that_cannot_be_decoded_leaves_the_poster_as_it_is,
    a_poster_that_was_found_outdated_is_not_shown,
}
