//! Submissions, versions, the line and the pool.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "the rig is shared")]

mod rig;

use std::time::Duration;

use rig::{Rig, caller, operator};
use streamgate_core::{ErrorKind, Failure, ids::ContentId};
use streamgate_proto::streamgate::{
    events::v1::event::Payload,
    transcoder::v1::{
        CancelJobRequest, GetPoolMetricsRequest, JobPriority, JobState, LadderStep, ListJobsRequest, SubmitJobRequest,
        transcoder_service_server::TranscoderService as _,
    },
};
use streamgate_store::BlobKey;
use streamgate_testkit::eventually;
use tonic::Status;

const GOOD: &str = "probed v360\nrendition v360\nsegment v360 1\nsegment v360 2\ndone 4000\n";

fn reason(status: &Status) -> String {
    Failure::from(status).reason.into_owned()
}

fn again(content: &str) -> SubmitJobRequest {
    SubmitJobRequest { content_id: content.to_owned(), profile: "small".to_owned(), ..Default::default() }
}

async fn a_title_that_plays_goes_on_playing_until_its_next_version_is_whole() {
    let rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    rig.set_part("error damaged\n");
    let failed = rig.submit("owner", again(&content)).await.unwrap();
    assert_eq!((failed.version, failed.profile.as_str()), (2, "small"));
    rig.until(&content, JobState::Failed).await;
    let played = rig.presentation(&content, 0).await.unwrap();
    assert_eq!((played.version, played.complete, played.stopped), (1, true, false));
    assert!(matches!(rig.last_event().await, Payload::TranscodingFailed(failed) if failed.remake));

    rig.set_part(GOOD);
    rig.submit("owner", again(&content)).await.unwrap();
    rig.until(&content, JobState::Succeeded).await;
    let played = rig.presentation(&content, 0).await.unwrap();
    assert_eq!((played.version, played.complete), (3, true));
    assert_eq!(rig.version(&content, 1).await.unwrap().video.len(), 1, "who began with the first version goes on with it");
    assert!(rig.version(&content, 2).await.unwrap().stopped);
    assert!(rig.version(&content, 9).await.is_none());
}

async fn superseded_media_goes_when_its_time_is_over_and_the_new_stays() {
    let mut rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    rig.submit("owner", again(&content)).await.unwrap();
    rig.until(&content, JobState::Succeeded).await;
    let key = async |version| {
        let made = rig.version(&content, version).await.unwrap();
        BlobKey::new(format!("media/{content}/{}", made.video[0].track.clone().unwrap().segments[0].path)).unwrap()
    };
    let (old, new) = (key(1).await, key(2).await);
    assert_eq!(rig.engine.purge_superseded().await.unwrap(), 0, "players may still be at it");
    rig.limit(10);
    assert_eq!(rig.engine.purge_superseded().await.unwrap(), 1);
    assert_eq!(rig.engine.purge_superseded().await.unwrap(), 0);
    assert!(rig.engine_blobs().head(&old).await.is_err() && rig.engine_blobs().head(&new).await.is_ok());
    assert!(rig.version(&content, 1).await.is_none());
    assert_eq!(rig.presentation(&content, 0).await.unwrap().version, 2);
}

async fn a_job_that_failed_is_never_called_whole() {
    let rig = Rig::start("probed v360\nrendition v360\nsegment v360 1\nerror damaged\n").await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Failed).await;
    let made = rig.presentation(&content, 0).await.unwrap();
    assert_eq!((made.complete, made.stopped, made.video.len()), (false, true, 1));
}

async fn a_repeated_submission_gets_the_first_answer_and_a_changed_one_is_refused() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let wanted = || SubmitJobRequest { content_id: content.clone(), request_id: "key".into(), ..Default::default() };
    let first = rig.submit("owner", wanted()).await.unwrap();
    rig.handler.cancel_job(caller("owner", CancelJobRequest { job_id: first.job_id.clone() })).await.unwrap();
    assert_eq!(rig.submit("owner", wanted()).await.unwrap().job_id, first.job_id, "also once the job has ended");
    let changed = SubmitJobRequest { profile: "fast".into(), ..wanted() };
    assert_eq!(reason(&rig.submit("owner", changed).await.unwrap_err()), "request_id_reused");
    let other = SubmitJobRequest { request_id: "other".into(), ..wanted() };
    assert_ne!(rig.submit("owner", other).await.unwrap().job_id, first.job_id);
}

async fn an_open_job_is_given_again_unless_other_settings_are_wanted() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let open = rig.job(&content).await;
    let same = SubmitJobRequest { content_id: content.clone(), ..Default::default() };
    assert_eq!(rig.submit("owner", same).await.unwrap().job_id, open.job_id);
    assert_eq!(reason(&rig.submit("owner", again(&content)).await.unwrap_err()), "job_under_way");
}

async fn a_whole_title_is_not_made_the_same_way_twice() {
    let rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    let same = SubmitJobRequest { content_id: content.clone(), ..Default::default() };
    assert_eq!(reason(&rig.submit("owner", same).await.unwrap_err()), "already_transcoded");
}

async fn a_ladder_of_its_own_reaches_the_encoder_and_a_wrong_one_is_told_by_field() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let job = rig.job(&content).await;
    rig.handler.cancel_job(caller("owner", CancelJobRequest { job_id: job.job_id })).await.unwrap();
    let with = |short_side_px, max_kbps| SubmitJobRequest {
        content_id: content.clone(),
        ladder: vec![LadderStep { short_side_px, max_kbps }],
        ..Default::default()
    };
    let status = rig.submit("owner", with(20, 1)).await.unwrap_err();
    let fields: Vec<String> = Failure::from(&status).fields.into_iter().map(|field| field.field).collect();
    assert_eq!(fields, ["ladder[0].short_side_px", "ladder[0].max_kbps"]);
    let unknown = SubmitJobRequest { profile: "nope".into(), ..again(&content) };
    assert_eq!(Failure::from(&rig.submit("owner", unknown).await.unwrap_err()).fields[0].field, "profile");
    let queued = rig.submit("owner", with(240, 300)).await.unwrap();
    assert_eq!(queued.ladder, [LadderStep { short_side_px: 240, max_kbps: 300 }]);
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(claim.job.settings.contains("\"short_side\":240"), "{}", claim.job.settings);
}

async fn a_higher_priority_goes_first_and_is_for_operators() {
    let rig = Rig::without_worker().await;
    let (first, second) = (rig.upload("owner").await, rig.upload("owner").await);
    let job = rig.job(&second).await;
    rig.handler.cancel_job(caller("owner", CancelJobRequest { job_id: job.job_id })).await.unwrap();
    let high = SubmitJobRequest { priority: JobPriority::High.into(), ..again(&second) };
    assert_eq!(reason(&rig.submit("owner", high.clone()).await.unwrap_err()), "priority_reserved");
    rig.handler.submit_job(operator(high)).await.unwrap();
    assert_eq!((rig.job(&first).await.queue_place, rig.job(&second).await.queue_place), (1, 0));
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(claim.job.content_id, second);
}

async fn a_full_queue_says_so_and_takes_uploads_all_the_same() {
    let mut rig = Rig::without_worker().await;
    rig.limit(1);
    let (content, other) = (rig.upload("owner").await, rig.upload("owner").await);
    let job = rig.job(&content).await;
    rig.handler.cancel_job(caller("owner", CancelJobRequest { job_id: job.job_id })).await.unwrap();
    let status = rig.submit("owner", again(&content)).await.unwrap_err();
    let failure = Failure::from(&status);
    assert_eq!((failure.kind, failure.reason.as_ref()), (ErrorKind::ResourceExhausted, "queue_full"));
    assert!(failure.retry_after.is_some());
    assert_eq!(rig.job(&other).await.state(), JobState::Queued);
}

async fn a_waiting_job_says_when_it_will_be_done_once_the_pace_is_known() {
    let mut rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    rig.stop_worker().await;
    let (waiting, last) = (rig.upload("owner").await, rig.upload("owner").await);
    assert_eq!(rig.job(&waiting).await.eta_seconds, None, "nobody is there to run it");
    rig.engine.report_worker("one", 1, 0).await.unwrap();
    let (first, second) = (rig.job(&waiting).await.eta_seconds, rig.job(&last).await.eta_seconds);
    assert!(first.is_some() && second >= first, "{first:?} {second:?}");
}

async fn the_pool_is_counted_over_all_processes() {
    let rig = Rig::without_worker().await;
    rig.upload("owner").await;
    rig.upload("owner").await;
    rig.engine.report_worker("one", 2, 0).await.unwrap();
    rig.replica().report_worker("two", 3, 0).await.unwrap();
    rig.replica().claim("two", Duration::from_secs(60)).await.unwrap().unwrap();
    let pool = rig.handler.get_pool_metrics(operator(GetPoolMetricsRequest {})).await.unwrap().into_inner();
    assert_eq!((pool.workers, pool.slots, pool.running, pool.queued, pool.queue_limit), (2, 5, 1, 1, 1_000));
    assert_eq!(pool.drain_seconds, None, "no job has ended yet, so there is no pace");
    rig.engine.forget_workers("one").await.unwrap();
    let pool = rig.handler.get_pool_metrics(operator(GetPoolMetricsRequest {})).await.unwrap().into_inner();
    assert_eq!(pool.slots, 3);
}

async fn two_processes_never_claim_the_same_job() {
    let rig = Rig::without_worker().await;
    for _ in 0..6 {
        rig.upload("owner").await;
    }
    let engines: Vec<_> = (0..8).map(|_| rig.replica()).collect();
    let claims = engines
        .iter()
        .enumerate()
        .map(async |(index, engine)| engine.claim(&format!("worker {index}"), Duration::from_secs(60)).await.unwrap());
    let claims = futures::future::join_all(claims).await;
    let mut ids: Vec<String> = claims.into_iter().flatten().map(|claim| claim.job.job_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

async fn a_list_is_filtered_and_shows_nobody_the_jobs_of_others() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    rig.upload("owner").await;
    rig.upload("other").await;
    let list = async |request| rig.handler.list_jobs(request).await.map(|answer| answer.into_inner().jobs);
    assert_eq!(list(operator(ListJobsRequest::default())).await.unwrap().len(), 3);
    assert_eq!(list(caller("owner", ListJobsRequest::default())).await.unwrap().len(), 2);
    let of_title = || ListJobsRequest { content_id: content.clone(), ..Default::default() };
    assert_eq!(list(caller("owner", of_title())).await.unwrap().len(), 1);
    assert!(list(caller("other", of_title())).await.unwrap().is_empty());
    let failed = ListJobsRequest { state: JobState::Failed.into(), ..Default::default() };
    assert!(list(operator(failed)).await.unwrap().is_empty());
    let owner = list(operator(of_title())).await.unwrap()[0].owner.clone();
    let of_owner = || ListJobsRequest { owner: owner.clone(), ..Default::default() };
    assert_eq!(list(operator(of_owner())).await.unwrap().len(), 2);
    assert_eq!(reason(&list(caller("other", of_owner())).await.unwrap_err()), "owner_foreign");
}

async fn a_source_that_is_gone_ends_its_job_with_a_reason() {
    let rig = Rig::start("done 1\n").await;
    let content = rig.upload_without_source("owner").await;
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!((job.error_reason.as_str(), job.attempts), ("source_gone", 1));
    assert_eq!(reason(&rig.submit("owner", again(&content)).await.unwrap_err()), "source_gone");
}

async fn a_job_that_was_to_be_stopped_as_its_worker_gave_it_back_ends_all_the_same() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    let stop = CancelJobRequest { job_id: claim.job.job_id.clone() };
    rig.handler.cancel_job(caller("owner", stop)).await.unwrap();
    // It stops before it has heard of that.
    rig.engine.give_back(&claim, Duration::ZERO, false).await.unwrap();
    assert!(rig.engine.claim("other", Duration::from_secs(60)).await.unwrap().is_none());
    rig.engine.end_orphans().await.unwrap();
    assert_eq!(rig.job(&content).await.state(), JobState::Cancelled);
    assert_eq!(rig.events().await, ["transcoding.started", "transcoding.failed"]);
}

async fn a_job_that_ends_its_workers_is_given_up_and_the_next_goes_on() {
    const SILENCE: &str = "UPDATE jobs SET lease_until_ms = 1 WHERE state = 'running'";
    let rig = Rig::without_worker().await;
    let claim = async || rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    let (killer, next) = (rig.upload("owner").await, rig.upload("owner").await);
    for _ in 0..9 {
        assert_eq!(claim().await.job.content_id, killer);
        rig.change("UPDATE jobs SET made_ms = made_ms + 1 WHERE state = 'running'").await;
        rig.change(SILENCE).await;
    }
    for _ in 0..5 {
        assert_eq!(claim().await.job.content_id, killer, "as long as something is made it goes on, and for a while after that");
        rig.change(SILENCE).await;
    }
    assert_eq!(claim().await.job.content_id, next);
    let ended = rig.job(&killer).await;
    assert_eq!((ended.state(), ended.error_reason.as_str()), (JobState::Failed, "worker_lost"));
    assert_eq!(rig.events().await, ["transcoding.started", "transcoding.failed", "transcoding.started"]);
}

async fn an_attempt_that_lost_its_job_takes_nothing_of_the_next_one_along() {
    let part = "attempt 1\nprobed v360\nrendition v360\nsegment v360 1\nhang\n\
                attempt 2\nexpect_resume 2\nprobed v360\nrendition v360\nawait\nsegment v360 2\ndone 4000\n";
    let rig = Rig::with_rare_heartbeats(part, 2).await;
    let content = rig.upload("owner").await;
    rig.until_segments(&content, 1).await;
    let first = rig.child().unwrap();
    // The same worker takes its own job once more, before it has heard that it lost it.
    rig.until_taken_from(first).await;
    assert_eq!(rig.folders(), 2, "each attempt has its own");
    // Whatever happens makes workers look at their leases.
    rig.delete(ContentId::new().as_str()).await;
    rig.until_gone(first).await;
    rig.go_on();
    assert_eq!(rig.until(&content, JobState::Succeeded).await.attempts, 2);
}

async fn a_job_that_no_worker_can_carry_on_is_given_up_after_a_day() {
    let rig = Rig::without_worker().await;
    let content = rig.upload("owner").await;
    let fail = async || {
        let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
        rig.engine.put_off(&claim, Duration::ZERO).await.unwrap();
    };
    let a_day_passes = async || rig.change("UPDATE jobs SET troubled_ms = troubled_ms - 86400001 WHERE troubled_ms > 0").await;
    fail().await;
    fail().await;
    a_day_passes().await;
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    rig.change("UPDATE jobs SET made_ms = made_ms + 1").await;
    rig.engine.give_back(&claim, Duration::ZERO, false).await.unwrap();
    fail().await;
    assert_eq!(rig.job(&content).await.state(), JobState::Queued, "something was made meanwhile");
    a_day_passes().await;
    fail().await;
    let ended = rig.job(&content).await;
    assert_eq!((ended.state(), ended.error_reason.as_str()), (JobState::Failed, "given_up"));
    assert_eq!(rig.events().await, ["transcoding.started", "transcoding.failed"]);
}

async fn an_encoder_that_says_what_cannot_be_kept_or_names_what_is_not_there_has_crashed() {
    for part in ["mumble v360\n", "steal v360 v360/00009.m4s\n"] {
        let rig = Rig::start(&format!("probed v360\nrendition v360\n{part}")).await;
        let content = rig.upload("owner").await;
        assert_eq!(rig.until(&content, JobState::Failed).await.error_reason, "crashed");
    }
}

async fn a_job_whose_settings_cannot_be_read_ends_with_a_reason() {
    let mut rig = Rig::start(GOOD).await;
    rig.stop_worker().await;
    let content = rig.upload("owner").await;
    rig.change("UPDATE jobs SET settings = '{'").await;
    rig.start_worker();
    let job = rig.until(&content, JobState::Failed).await;
    assert_eq!((job.error_reason.as_str(), job.attempts), ("job_unreadable", 1));
}

/// On SQLite, which keeps a text that is none.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_ended_and_holds_up_no_other() {
    let rig = Rig::without_worker().await;
    let (damaged, deleted, next) = (rig.upload("owner").await, rig.upload("owner").await, rig.upload("owner").await);
    let cancelled = rig.upload("owner").await;
    rig.change("UPDATE jobs SET trace_parent = CAST(X'FF' AS TEXT) WHERE seq < 3").await;
    rig.delete(&deleted).await;
    rig.change("UPDATE jobs SET cancel_wanted = 1 WHERE seq = 4").await;
    rig.engine.end_orphans().await.unwrap();
    assert_eq!(rig.job(&cancelled).await.state(), JobState::Cancelled);
    let claim = rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(claim.job.content_id, next);
    assert!(rig.engine.claim("worker", Duration::from_secs(60)).await.unwrap().is_none());
    let sent = rig.sent().await.into_iter().filter_map(|event| match event.payload {
        Some(Payload::TranscodingFailed(failed)) => Some((failed.content_id, failed.reason)),
        _ => None,
    });
    let expected = [(deleted, "job_unreadable"), (cancelled, "cancelled"), (damaged, "job_unreadable")];
    assert_eq!(sent.collect::<Vec<_>>(), expected.map(|(content, reason)| (content, reason.to_owned())));
}

async fn a_column_that_a_newer_release_adds_breaks_no_call_of_this_one() {
    let rig = Rig::start(GOOD).await;
    // Often enough for each connection to know the statements.
    let use_all = async || {
        let content = rig.upload("owner").await;
        rig.until(&content, JobState::Succeeded).await;
        for _ in 0..20 {
            assert_eq!(rig.presentation(&content, 0).await.unwrap().video.len(), 1);
            assert_eq!(rig.version(&content, 1).await.unwrap().video.len(), 1);
            rig.engine.pool().await.unwrap();
        }
    };
    use_all().await;
    rig.change("ALTER TABLE jobs ADD COLUMN of_a_newer_release INTEGER NOT NULL DEFAULT 7").await;
    rig.change("ALTER TABLE renditions ADD COLUMN of_a_newer_release INTEGER NOT NULL DEFAULT 7").await;
    rig.change("ALTER TABLE segments ADD COLUMN of_a_newer_release INTEGER NOT NULL DEFAULT 7").await;
    use_all().await;
}

async fn a_title_whose_media_cannot_be_deleted_holds_up_no_other() {
    let rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    let path = rig.presentation(&content, 0).await.unwrap().video[0].track.clone().unwrap().segments[0].path.clone();
    assert!(rig.media(&content, &path).await.is_some());
    // More than a page, and all first in line.
    rig.change(
        "INSERT INTO deleted_contents (content_id) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) \
         SELECT '../' || CAST(i AS TEXT) FROM n",
    )
    .await;
    rig.delete(&content).await;
    assert!(rig.engine.purge().await.is_err(), "it is told");
    assert!(rig.media(&content, &path).await.is_none());
}

async fn an_old_version_whose_media_cannot_be_deleted_holds_up_no_other() {
    let mut rig = Rig::start(GOOD).await;
    let content = rig.upload("owner").await;
    rig.until(&content, JobState::Succeeded).await;
    rig.submit("owner", again(&content)).await.unwrap();
    rig.until(&content, JobState::Succeeded).await;
    rig.change(
        "INSERT INTO jobs (job_id, content_id, owner, upload_id, source_key, state, created_ms, superseded_ms) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) \
         SELECT CAST(i AS TEXT), '../' || CAST(i AS TEXT), '', '', '', 'failed', 1, 1 + i / 100 FROM n",
    )
    .await;
    rig.limit(10);
    assert!(rig.engine.purge_superseded().await.is_err(), "it is told");
    assert!(rig.version(&content, 1).await.is_none());
    assert_eq!(rig.presentation(&content, 0).await.unwrap().version, 2);
}

async fn a_worker_outlives_trouble_with_its_rows() {
    let mut rig = Rig::start(GOOD).await;
    rig.stop_worker().await;
    let content = rig.upload("owner").await;
    rig.change("ALTER TABLE workers RENAME TO away").await;
    let worker = rig.start_worker();
    let looked = eventually("the worker looks for jobs", Duration::from_secs(60), async || Ok(worker.readiness().ok()));
    looked.await.unwrap();
    rig.change("ALTER TABLE away RENAME TO workers").await;
    rig.until(&content, JobState::Succeeded).await;
}

streamgate_testkit::on_both_engines! {
    rig:
    a_title_that_plays_goes_on_playing_until_its_next_version_is_whole,
    superseded_media_goes_when_its_time_is_over_and_the_new_stays,
    a_job_that_failed_is_never_called_whole,
    a_repeated_submission_gets_the_first_answer_and_a_changed_one_is_refused,
    an_open_job_is_given_again_unless_other_settings_are_wanted,
    a_whole_title_is_not_made_the_same_way_twice,
    a_ladder_of_its_own_reaches_the_encoder_and_a_wrong_one_is_told_by_field,
    a_higher_priority_goes_first_and_is_for_operators,
    a_full_queue_says_so_and_takes_uploads_all_the_same,
    a_waiting_job_says_when_it_will_be_done_once_the_pace_is_known,
    the_pool_is_counted_over_all_processes,
    two_processes_never_claim_the_same_job,
    a_list_is_filtered_and_shows_nobody_the_jobs_of_others,
    a_source_that_is_gone_ends_its_job_with_a_reason,
    a_job_that_was_to_be_stopped_as_its_worker_gave_it_back_ends_all_the_same,
    a_job_that_ends_its_workers_is_given_up_and_the_next_goes_on,
    an_attempt_that_lost_its_job_takes_nothing_of_the_next_one_along,
    a_job_that_no_worker_can_carry_on_is_given_up_after_a_day,
    an_encoder_that_says_what_cannot_be_kept_or_names_what_is_not_there_has_crashed,
    a_job_whose_settings_cannot_be_read_ends_with_a_reason,
    a_column_that_a_newer_release_adds_breaks_no_call_of_this_one,
    a_title_whose_media_cannot_be_deleted_holds_up_no_other,
    an_old_version_whose_media_cannot_be_deleted_holds_up_no_other,
    a_worker_outlives_trouble_with_its_rows,
}
