//! The service over real stores, with encoders that are played by scripts, and once with the real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod rig;

use std::time::Duration;

use prost::Message as _;
use rig::{Rig, caller, operator};
use streamgate_client::context::caused_by;
use streamgate_core::{ErrorKind, Failure};
use streamgate_media::brief::restore;
use streamgate_proto::streamgate::transcoder::v1::{
    CancelJobRequest, GetJobRequest, GetPresentationRequest, JobState, ListJobsRequest, MakePosterRequest, SubmitJobRequest,
    transcoder_service_server::TranscoderService as _,
};
use streamgate_store::{BlobKey, EventHandler as _};
use streamgate_transcoder::{Error, NewSegment, find_encoder};

/// Two segments of one rung, and the end.
const GOOD: &str = "probed v360\nrendition v360\nsegment v360 1\nsegment v360 2\ndone 4000\n";

async fn an_upload_is_queued_once_and_becomes_a_presentation() {
    let rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.upload_again(&content, "owner").await;
    let job = rig.until(&content, JobState::Succeeded).await;
    assert_eq!((job.attempts, job.partial, job.queue_place), (1, false, 0));
    let listed = rig.handler.list_jobs(operator(ListJobsRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.jobs.len(), 1, "an operator sees the jobs of all");
    let listed = rig.handler.list_jobs(caller("owner", ListJobsRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.jobs.len(), 1);

    let presentation = rig.presentation(&content, 0).await.unwrap();
    assert!(presentation.complete);
    let track = presentation.video[0].track.clone().unwrap();
    assert_eq!(
        track.segments.iter().map(|s| (s.number, s.start, s.duration)).collect::<Vec<_>>(),
        [(1, 0, 2000), (2, 2000, 2000)]
    );
    for path in track.segments.iter().map(|s| &s.path).chain([&track.init.unwrap().path]) {
        let key = BlobKey::new(format!("media/{content}/{path}")).unwrap();
        assert!(rig.engine_blobs().head(&key).await.is_ok(), "{path}");
    }
    assert_eq!(rig.presentation(&content, presentation.revision).await, None);
    assert_eq!(rig.events().await, ["transcoding.started", "rendition.ready", "transcoding.completed"]);
}

async fn a_killed_encoder_is_resumed_and_nothing_is_published_twice() {
    let rig = Rig::start("attempt 1\nprobed v360\nrendition v360\nsegment v360 1\ncrash\nattempt 2\nexpect_resume 2\nprobed v360\nrendition v360\nsegment v360 2\ndone 4000\n").await;
    let content = rig.upload("owner").await;
    let job = rig.until(&content, JobState::Succeeded).await;
    assert_eq!(job.attempts, 2);
    let presentation = rig.presentation(&content, 0).await.unwrap();
    assert_eq!(presentation.video[0].track.clone().unwrap().segments.len(), 2);
    let events = rig.events().await;
    assert_eq!(events.iter().filter(|event| **event == "rendition.ready").count(), 1);
    assert_eq!(events.iter().filter(|event| **event == "transcoding.started").count(), 1);
}

async fn a_file_that_crashes_every_encoder_fails_and_can_be_submitted_again() {
    let rig = Rig::start("crash\n").await;
    let content = rig.upload("owner").await;
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!((job.error_reason.as_str(), job.attempts), ("crashed", 3));
    let again = SubmitJobRequest { content_id: content.clone(), request_id: "r1".to_owned(), ..Default::default() };
    let first = rig.handler.submit_job(caller("owner", again.clone())).await.unwrap().into_inner().job.unwrap();
    let second = rig.handler.submit_job(caller("owner", again)).await.unwrap().into_inner().job.unwrap();
    assert_eq!(first.job_id, second.job_id);
    assert_ne!(first.job_id, job.job_id);
}

async fn a_refusal_is_final_and_says_why() {
    let rig = Rig::start("error hdr_not_supported\n").await;
    let content = rig.upload("owner").await;
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!((job.error_reason.as_str(), job.attempts), ("hdr_not_supported", 1));
    assert_eq!(rig.events().await, ["transcoding.started", "transcoding.failed"]);
}

async fn an_encoder_without_a_sign_of_life_is_killed() {
    let rig = Rig::impatient("probed v360\nhang\n").await;
    let content = rig.upload("owner").await;
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!(job.error_reason, "stalled");
    rig.until_no_child().await;
}

async fn a_cancelled_job_ends_at_once_and_takes_its_child_along() {
    let rig = Rig::with_rare_heartbeats("probed v360\nhang\n", 1).await;
    let content = rig.upload("owner").await;
    rig.until_child().await;
    let job = rig.until(&content, JobState::Running).await;
    rig.handler.cancel_job(caller("owner", CancelJobRequest { job_id: job.job_id })).await.unwrap();
    rig.until(&content, JobState::Cancelled).await;
    rig.until_no_child().await;
    assert_eq!(rig.events().await, ["transcoding.started", "transcoding.failed"]);
}

async fn an_encoder_that_names_files_outside_its_folder_gets_nothing_published() {
    let rig = Rig::start("probed v360\nrendition v360\nsteal v360 ../../../etc/passwd\n").await;
    let content = rig.upload("owner").await;
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!(job.error_reason, "crashed");
    assert!(rig.presentation(&content, 0).await.unwrap().video.is_empty());
}

async fn an_encoder_that_names_files_outside_its_folder_gets_nothing_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "kept").unwrap();
    // What is published already is not taken again, but removed. No segment has the number 0.
    for number in [0, 1] {
        let named = precious.display();
        let part = format!("probed v360\nrendition v360\nsegment v360 1\nsteal v360 {named} {number}\n");
        let rig = Rig::start(&part).await;
        let content = rig.upload("owner").await;
        let job = rig.until(&content, JobState::Failed).await;
        assert_eq!(job.error_reason, "crashed");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
    }
}

async fn a_worker_that_stops_gives_its_job_back_and_another_goes_on() {
    let mut rig = Rig::start("attempt 1\nprobed v360\nrendition v360\nsegment v360 1\nhang\nattempt 2\nexpect_resume 2\nprobed v360\nrendition v360\nsegment v360 2\ndone 4000\n").await;
    let content = rig.upload("owner").await;
    rig.until_segments(&content, 1).await;
    rig.stop_worker().await;
    rig.until_no_child().await;
    assert_eq!(rig.job(&content).await.state(), JobState::Queued);
    rig.start_worker();
    assert_eq!(rig.until(&content, JobState::Succeeded).await.attempts, 2);
}

async fn who_lost_the_lease_can_publish_nothing() {
    let rig = Rig::without_worker().await;
    rig.upload("owner").await;
    let first = rig.engine.claim("first", Duration::ZERO).await.unwrap().unwrap();
    let second = rig.claim_again("second").await;
    assert_eq!(second.fence(), first.fence() + 1);
    let segment = NewSegment { rendition: "v360".into(), number: 1, start: 0, duration: 1, size_bytes: 1, path: "p".into() };
    assert!(matches!(rig.engine.add_segment(&first, &segment).await, Err(Error::LeaseLost(_))));
    assert!(matches!(rig.engine.succeed(&first, 1, false).await, Err(Error::LeaseLost(_))));
    assert!(matches!(rig.engine.fail(&first, "x", "y").await, Err(Error::LeaseLost(_))));
    assert!(rig.engine.succeed(&second, 1, false).await.is_ok());
}

async fn jobs_are_run_in_order_and_a_waiting_one_knows_its_place() {
    let rig = Rig::without_worker().await;
    let (first, second) = (rig.upload("owner").await, rig.upload("owner").await);
    assert_eq!((rig.job(&first).await.queue_place, rig.job(&second).await.queue_place), (0, 1));
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(claim.job.content_id, first);
    assert_eq!(rig.job(&second).await.queue_place, 1);
}

async fn a_deleted_title_loses_its_job_and_its_media() {
    let rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    let path = rig.presentation(&content, 0).await.unwrap().video[0].track.clone().unwrap().segments[0].path.clone();
    rig.delete(&content).await;
    rig.engine.purge().await.unwrap();
    let key = BlobKey::new(format!("media/{content}/{path}")).unwrap();
    assert!(rig.engine_blobs().head(&key).await.is_err());
    let request = GetPresentationRequest { content_id: content.clone(), ..Default::default() };
    assert!(rig.handler.get_presentation(operator(request)).await.is_err());
    rig.upload_again(&content, "owner").await;
    assert!(rig.handler.get_job(caller("owner", GetJobRequest { content_id: content, ..Default::default() })).await.is_err());
}

async fn a_title_that_is_too_long_for_a_message_is_told_in_brief() {
    const MOST: usize = 4 * 1024 * 1024;
    // 12 hours of two seconds each: the longest source that is taken by default.
    const SEGMENTS: usize = 21_600;
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    rig.change(
        "WITH RECURSIVE sizes(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM sizes WHERE n < 3) \
         INSERT INTO renditions (job_id, name, width, height, rate_num, rate_den, codecs, timescale, init_path, init_bytes) \
         SELECT job_id, 'v' || CAST(n AS TEXT), n, n, 25, 1, 'avc1.64001e', 1000, 'init.mp4', 5 FROM jobs, sizes",
    )
    .await;
    for _ in 0..3 {
        rig.change(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 21600) \
             INSERT INTO segments (job_id, rendition, number, start, duration, size_bytes, path) \
             SELECT job_id, name, n, (n - 1) * 2000, 2000, 500000 + n, job_id || '/' || name || '/' || \
             SUBSTR('00000' || CAST(n AS TEXT), LENGTH(CAST(n AS TEXT)) + 1) || '.m4s' \
             FROM (SELECT job_id, name FROM renditions WHERE name NOT IN (SELECT rendition FROM segments) ORDER BY name LIMIT 1) AS next, \
             numbers",
        )
        .await;
    }
    let request = GetPresentationRequest { content_id: content.clone(), ..Default::default() };
    let answer = rig.handler.get_presentation(operator(request)).await.unwrap().into_inner();
    // Eight sizes and sound, the most that may be asked for, fit as well.
    assert!(answer.encoded_len() / 3 * 9 <= MOST, "{} bytes", answer.encoded_len());
    let mut presentation = answer.presentation.unwrap();
    restore(&mut presentation);
    assert!(presentation.encoded_len() > MOST, "whole, it would be too long");
    for video in &presentation.video {
        let segments = &video.track.as_ref().unwrap().segments;
        assert_eq!(segments.len(), SEGMENTS);
        let last = segments.last().unwrap();
        assert_eq!(last.path, format!("{}/{}/21600.m4s", presentation.job_id, video.name));
        assert_eq!((last.number, last.start, last.duration, last.size_bytes), (21_600, 43_198_000, 2_000, 521_600));
    }
}

async fn another_account_learns_nothing_of_a_job() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let ask = GetJobRequest { content_id: content.clone(), ..Default::default() };
    let status = rig.handler.get_job(caller("other", ask.clone())).await.unwrap_err();
    assert_eq!(Failure::from(&status).kind, ErrorKind::NotFound);
    assert!(rig.handler.get_job(operator(ask)).await.is_ok());
    let submit = SubmitJobRequest { content_id: content, ..Default::default() };
    assert!(rig.handler.submit_job(caller("other", submit)).await.is_err());
    assert!(rig.handler.get_job(caller("owner", GetJobRequest::default())).await.is_err());
}

async fn what_a_job_tells_stays_in_the_trace_of_the_upload_that_caused_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cause = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let part =
        "attempt 1\nprobed v360\nrendition v360\nsegment v360 1\ncrash\nattempt 2\nrendition v360\nsegment v360 2\ndone 4000\n";
    let mut rig = Rig::start(part).await;
    let content = caused_by(&cause, "evt_1", "upload", rig.upload("owner")).await;
    assert_eq!(rig.until(&content, JobState::Succeeded).await.attempts, 2);
    // One that was to be stopped when its worker was gone is ended by nobody in particular.
    rig.stop_worker().await;
    let stopped = caused_by(&cause, "evt_2", "upload", rig.upload("owner")).await;
    rig.engine.claim("gone", Duration::from_secs(60)).await.unwrap().unwrap();
    rig.change("UPDATE jobs SET cancel_wanted = 1, lease_until_ms = 1 WHERE state = 'running'").await;
    rig.engine.end_orphans().await.unwrap();
    assert_eq!(rig.job(&stopped).await.state(), JobState::Cancelled);
    let types = ["transcoding.started", "rendition.ready", "transcoding.completed", "transcoding.started", "transcoding.failed"];
    assert_eq!(rig.events().await, types);
    for event in rig.sent().await {
        assert_eq!(event.trace_parent.split('-').nth(1), Some(TRACE), "{}", event.r#type);
    }
}

async fn a_wrong_event_is_refused_for_good() {
    let rig = Rig::without_worker().await;
    let event = rig::uploaded("not a content id", "owner");
    let failure = rig.engine.handle(event).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::InvalidArgument);
}

async fn the_real_encoder_makes_a_playable_ladder() {
    let Ok(encoder) = find_encoder(std::path::Path::new("")) else {
        println!("skipped: the encoder is not built");
        return;
    };
    let rig = Rig::with_encoder(&encoder).await;
    let content = rig.upload_fixture("owner").await;
    let job = rig.until(&content, JobState::Succeeded).await;
    assert!((job.progress - 1.0).abs() < f64::EPSILON);
    let presentation = rig.presentation(&content, 0).await.unwrap();
    let sizes: Vec<_> = presentation.video.iter().map(|v| (v.name.as_str(), v.width, v.height)).collect();
    assert_eq!(sizes, [("v720", 1280, 720), ("v480", 852, 480), ("v360", 640, 360)]);
    assert!(presentation.video.iter().all(|v| v.codecs.starts_with("avc1.") && v.track.as_ref().unwrap().segments.len() == 3));
    assert_eq!(presentation.audio.unwrap().codecs, "mp4a.40.2");
    assert_eq!(presentation.source_duration_ms, 5312);
    let first = rig.media(&content, &presentation.poster.unwrap().path).await.unwrap();
    let wanted = MakePosterRequest { content_id: content.clone(), at_ms: 4_500 };
    rig.handler.make_poster(caller("owner", wanted)).await.unwrap();
    let chosen = rig.presentation(&content, 0).await.unwrap().poster.unwrap();
    let other = rig.media(&content, &chosen.path).await.unwrap();
    assert_eq!(&other[..3], [0xff, 0xd8, 0xff]);
    assert_ne!(first, other);
}

streamgate_testkit::on_both_engines! {
    rig:
    an_upload_is_queued_once_and_becomes_a_presentation,
    a_killed_encoder_is_resumed_and_nothing_is_published_twice,
    a_file_that_crashes_every_encoder_fails_and_can_be_submitted_again,
    a_refusal_is_final_and_says_why,
    an_encoder_without_a_sign_of_life_is_killed,
    a_cancelled_job_ends_at_once_and_takes_its_child_along,
    an_encoder_that_names_files_outside_its_folder_gets_nothing_published,
    an_encoder_that_names_files_outside_its_folder_gets_nothing_deleted,
    a_worker_that_stops_gives_its_job_back_and_another_goes_on,
    who_lost_the_lease_can_publish_nothing,
    jobs_are_run_in_order_and_a_waiting_one_knows_its_place,
    a_deleted_title_loses_its_job_and_its_media,
    a_title_that_is_too_long_for_a_message_is_told_in_brief,
    another_account_learns_nothing_of_a_job,
    what_a_job_tells_stays_in_the_trace_of_the_upload_that_caused_it,
    a_wrong_event_is_refused_for_good,
    the_real_encoder_makes_a_playable_ladder,
}
