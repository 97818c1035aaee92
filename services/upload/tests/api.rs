//! The service over a real connection, with files on disk and metadata faked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod house;

use std::sync::atomic::Ordering;

use futures::{StreamExt as _, stream};
use house::{House, header, reason, sha256};
use sqlx::Row as _;
use streamgate_core::{ErrorKind, ids::EventId};
use streamgate_proto::streamgate::{
    events::v1::{ContentPurged, DeliverRequest, Event, FileUploaded, event::Payload},
    gate::v1::{Rule, SignedIn, rule::Kind},
    upload::v1::{CreateUploadRequest, UploadState, VerifyObjectsRequest, WriteUploadRequest, write_upload_request::Part},
};
use streamgate_upload::Config;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 253).unwrap()).collect()
}

async fn a_file_that_was_sent_whole_is_completed_and_told_of_once() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let body = pattern(2_500_000);
    let created = owner.create(CreateUploadRequest { size_bytes: body.len() as u64, ..house::clip() }).await.unwrap();
    assert_eq!((created.state(), created.offset_bytes), (UploadState::Open, 0));
    assert!(created.file_id.is_empty() && created.content_id.starts_with("cnt_"));

    let written = owner.write(&created.upload_id, 0, &body).await.unwrap();
    assert_eq!(written.offset_bytes, body.len() as u64);
    let completed = owner.complete(&created.upload_id).await.unwrap();
    assert_eq!(completed.state(), UploadState::Completed);
    assert_eq!(completed.sha256, sha256(&body));
    assert_eq!(completed.size_bytes, body.len() as u64);
    assert!(completed.file_id.starts_with("fil_"));
    assert_eq!(owner.complete(&created.upload_id).await.unwrap(), completed);

    let told = house.events().await;
    let Payload::FileUploaded(FileUploaded { source_key, sha256: told_hash, content_id, .. }) = &told[0] else {
        panic!("{told:?}");
    };
    assert_eq!((told.len(), content_id, told_hash), (1, &created.content_id, &completed.sha256));
    assert_eq!(house.source(source_key).await, body);
}

async fn an_upload_goes_on_after_a_cut_and_a_restart_without_losing_a_byte() {
    let mut house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let body = pattern(900_000);
    let upload = owner.create(house::clip()).await.unwrap();

    // The client vanishes in the middle of its stream.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(header(&upload.upload_id, 0)).await.unwrap();
    sender.send(WriteUploadRequest { part: Some(Part::Chunk(body[..400_000].to_vec().into())) }).await.unwrap();
    let mut client = owner.client.clone();
    let cut = tokio::spawn(async move { client.write_upload(ReceiverStream::new(receiver)).await });
    owner.until_offset(&upload.upload_id, 400_000).await;
    cut.abort();
    drop(sender);

    house.restart().await;
    let mut owner = house.connect("creator-1").await;
    let offset = owner.get(&upload.upload_id).await.unwrap().offset_bytes;
    assert_eq!(offset, 400_000);
    owner.write_when_free(&upload.upload_id, offset, &body[400_000..]).await;
    assert_eq!(owner.complete(&upload.upload_id).await.unwrap().sha256, sha256(&body));
}

async fn bytes_at_another_offset_are_refused_and_the_right_one_is_said() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let upload = owner.create(house::clip()).await.unwrap();
    owner.write(&upload.upload_id, 0, b"12345").await.unwrap();
    for offset in [0, 4, 6] {
        let refused = owner.write(&upload.upload_id, offset, b"x").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "wrong_offset"));
        assert!(refused.message().contains('5'), "{}", refused.message());
    }
}

async fn one_call_writes_at_a_time() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let upload = owner.create(house::clip()).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(header(&upload.upload_id, 0)).await.unwrap();
    sender.send(WriteUploadRequest { part: Some(Part::Chunk(b"first".to_vec().into())) }).await.unwrap();
    let mut client = owner.client.clone();
    let first = tokio::spawn(async move { client.write_upload(ReceiverStream::new(receiver)).await });
    owner.until_offset(&upload.upload_id, 5).await;

    let second = owner.write(&upload.upload_id, 5, b"second").await.unwrap_err();
    assert_eq!((second.code(), reason(&second).as_str()), (Code::Aborted, "upload_busy"));
    assert_eq!(reason(&owner.complete(&upload.upload_id).await.unwrap_err()), "upload_busy");
    drop(sender);
    assert_eq!(first.await.unwrap().unwrap().into_inner().upload.unwrap().offset_bytes, 5);
    owner.write(&upload.upload_id, 5, b"second").await.unwrap();
}

async fn a_file_that_is_not_the_announced_one_is_not_completed() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let announced = CreateUploadRequest { size_bytes: 5, sha256: sha256(b"12345"), ..house::clip() };
    let upload = owner.create(announced).await.unwrap();
    let empty = owner.complete(&upload.upload_id).await.unwrap_err();
    assert_eq!(reason(&empty), "upload_incomplete");
    owner.write(&upload.upload_id, 0, b"1234").await.unwrap();
    assert_eq!(reason(&owner.complete(&upload.upload_id).await.unwrap_err()), "upload_incomplete");
    owner.write(&upload.upload_id, 4, b"X").await.unwrap();
    let wrong = owner.complete(&upload.upload_id).await.unwrap_err();
    assert_eq!((wrong.code(), reason(&wrong).as_str()), (Code::FailedPrecondition, "sha256_mismatch"));

    let nothing = owner.create(house::clip()).await.unwrap();
    assert_eq!(reason(&owner.complete(&nothing.upload_id).await.unwrap_err()), "empty_file");
    assert!(house.events().await.is_empty());
}

async fn more_bytes_than_announced_or_taken_are_refused() {
    let house = House::with(Config { max_size_bytes: 1_000, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let refused = owner.create(CreateUploadRequest { size_bytes: 1_001, ..house::clip() }).await.unwrap_err();
    assert_eq!(reason(&refused), "file_too_large");

    let announced = owner.create(CreateUploadRequest { size_bytes: 10, ..house::clip() }).await.unwrap();
    assert_eq!(reason(&owner.write(&announced.upload_id, 0, &pattern(11)).await.unwrap_err()), "file_too_large");
    let unannounced = owner.create(house::clip()).await.unwrap();
    owner.write(&unannounced.upload_id, 0, &pattern(600)).await.unwrap();
    assert_eq!(reason(&owner.write(&unannounced.upload_id, 600, &pattern(401)).await.unwrap_err()), "file_too_large");
    assert_eq!(owner.get(&unannounced.upload_id).await.unwrap().offset_bytes, 600);
    owner.write(&unannounced.upload_id, 600, &pattern(400)).await.unwrap();
}

async fn the_same_request_id_gives_the_same_upload_and_another_body_is_refused() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let keyed = CreateUploadRequest { request_id: "key-1".into(), ..house::clip() };
    let first = owner.create(keyed.clone()).await.unwrap();
    assert_eq!(owner.create(keyed.clone()).await.unwrap(), first);
    let other = CreateUploadRequest { filename: "other.mp4".into(), ..keyed.clone() };
    let refused = owner.create(other).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "idempotency_conflict"));
    // A key belongs to its account.
    let foreign = house.connect("creator-2").await.create(keyed).await.unwrap();
    assert_ne!(foreign.upload_id, first.upload_id);
    assert_eq!(house.titles.made.load(Ordering::SeqCst), 2);
}

async fn metadata_being_away_is_said_and_repeating_the_call_makes_one_title() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let keyed = CreateUploadRequest { request_id: "key-1".into(), ..house::clip() };
    house.titles.fail(Some(ErrorKind::Unavailable));
    assert_eq!(owner.create(keyed.clone()).await.unwrap_err().code(), Code::Unavailable);
    assert!(owner.list(0, "").await.unwrap().uploads.is_empty());
    house.titles.fail(None);
    let upload = owner.create(keyed).await.unwrap();
    assert_eq!(house.titles.uploads(), [upload.upload_id.clone(), upload.upload_id]);
    house.titles.fail(Some(ErrorKind::PermissionDenied));
    assert_eq!(owner.create(house::clip()).await.unwrap_err().code(), Code::PermissionDenied);
}

async fn a_foreign_caller_finds_nothing_and_an_operator_everything() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let mut stranger = house.connect("creator-2").await;
    let answers = [
        stranger.get(&id).await.map(drop),
        stranger.write(&id, 0, b"x").await.map(drop),
        stranger.complete(&id).await.map(drop),
        stranger.cancel(&id).await.map(drop),
    ];
    for answer in answers {
        let refused = answer.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "upload_unknown"));
    }
    assert!(stranger.list(0, "").await.unwrap().uploads.is_empty());
    assert_eq!(house.connect("operator-1").await.get(&id).await.unwrap().upload_id, id);
    assert_eq!(stranger.get("upl_nonsense").await.unwrap_err().code(), Code::InvalidArgument);
}

async fn a_list_goes_through_all_pages_newest_first() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(owner.create(house::clip()).await.unwrap().upload_id);
    }
    ids.reverse();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = owner.list(2, &token).await.unwrap();
        seen.extend(page.uploads.into_iter().map(|upload| upload.upload_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
}

async fn an_account_has_a_bounded_number_of_open_uploads() {
    let house = House::with(Config { max_open_uploads: 2, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let first = owner.create(house::clip()).await.unwrap();
    owner.create(house::clip()).await.unwrap();
    let refused = owner.create(house::clip()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "too_many_uploads"));
    owner.cancel(&first.upload_id).await.unwrap();
    owner.create(house::clip()).await.unwrap();
}

async fn cancelling_stops_the_writer_and_deletes_the_bytes() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let upload = owner.create(house::clip()).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(header(&upload.upload_id, 0)).await.unwrap();
    sender.send(WriteUploadRequest { part: Some(Part::Chunk(pattern(1_000).into())) }).await.unwrap();
    let mut client = owner.client.clone();
    let writing = tokio::spawn(async move { client.write_upload(ReceiverStream::new(receiver)).await });
    owner.until_offset(&upload.upload_id, 1_000).await;

    assert_eq!(owner.cancel(&upload.upload_id).await.unwrap().state(), UploadState::Cancelled);
    assert_eq!(reason(&writing.await.unwrap().unwrap_err()), "upload_ended");
    assert_eq!(owner.cancel(&upload.upload_id).await.unwrap().state(), UploadState::Cancelled);
    assert_eq!(reason(&owner.write(&upload.upload_id, 0, b"x").await.unwrap_err()), "upload_closed");
    assert_eq!(reason(&owner.complete(&upload.upload_id).await.unwrap_err()), "upload_closed");
    assert_eq!(house.stored_files(), 0);
    assert!(matches!(house.events().await.as_slice(), [Payload::UploadAbandoned(a)] if a.reason == "cancelled"));
}

async fn a_sweep_ends_what_has_expired_and_nothing_else() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = owner.create(house::clip()).await.unwrap().upload_id;
        owner.write(&id, 0, b"some").await.unwrap();
        ids.push(id);
    }
    owner.complete(&ids[0]).await.unwrap();
    house.expire(&ids[..3]).await;
    let mut worker = house.connect("service").await;
    let swept = worker.sweep(1).await;
    assert_eq!((swept.expired, swept.more), (1, true));
    let swept = worker.sweep(0).await;
    assert_eq!((swept.expired, swept.more), (1, false));
    assert_eq!(worker.sweep(0).await.expired, 0);

    let mut states = Vec::new();
    for id in &ids {
        states.push(owner.get(id).await.unwrap().state());
    }
    assert_eq!(states, [UploadState::Completed, UploadState::Expired, UploadState::Expired, UploadState::Open]);
    assert_eq!(house.stored_files(), 2);
    let told = house.events().await;
    assert_eq!(told.iter().filter(|e| matches!(e, Payload::UploadAbandoned(a) if a.reason == "expired")).count(), 2);
}

async fn a_crash_between_sealing_and_the_commit_is_made_good_by_completing_again() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let upload = owner.create(house::clip()).await.unwrap();
    owner.write(&upload.upload_id, 0, b"12345").await.unwrap();
    house.seal(&upload.upload_id).await;
    assert_eq!(owner.get(&upload.upload_id).await.unwrap().offset_bytes, 5);
    assert_eq!(reason(&owner.write(&upload.upload_id, 5, b"6").await.unwrap_err()), "upload_closed");
    let completed = owner.complete(&upload.upload_id).await.unwrap();
    assert_eq!((completed.sha256.as_str(), completed.size_bytes), (sha256(b"12345").as_str(), 5));
    assert_eq!(house.events().await.len(), 1);
}

async fn a_silent_client_is_let_go_and_its_bytes_stay() {
    let house = House::with(Config { write_idle_timeout_ms: 50, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let upload = owner.create(house::clip()).await.unwrap();
    // Not over a connection: the first bytes are there at once, however busy the machine is.
    let body = stream::iter([Ok("first".into())]).chain(stream::pending()).boxed();
    let id = upload.upload_id.parse().unwrap();
    let caller = house::caller("creator-1");
    let silent = house.engine.write(&caller, &id, 0, body);
    assert_eq!(tokio::time::timeout(house::BOUND, silent).await.unwrap().unwrap_err().reason(), "stream_idle");
    assert_eq!(owner.get(&upload.upload_id).await.unwrap().offset_bytes, 5);
}

async fn a_purged_title_takes_its_source_and_its_open_upload_with_it() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let done = owner.create(house::clip()).await.unwrap();
    owner.write(&done.upload_id, 0, b"12345").await.unwrap();
    owner.complete(&done.upload_id).await.unwrap();
    let open = owner.create(house::clip()).await.unwrap();
    owner.write(&open.upload_id, 0, b"123").await.unwrap();
    assert_eq!(house.stored_files(), 2);
    for content_id in [&done.content_id, &open.content_id] {
        let payload = Payload::ContentPurged(ContentPurged { content_id: content_id.clone(), ..Default::default() });
        let event = Event { id: EventId::new().to_string(), payload: Some(payload), ..Event::default() };
        for _ in 0..2 {
            house.deliver(DeliverRequest { event: Some(event.clone()), ..Default::default() }).await;
        }
    }
    assert_eq!(house.stored_files(), 0);
    assert_eq!(owner.get(&open.upload_id).await.unwrap().state(), UploadState::Cancelled);
    assert_eq!(owner.get(&done.upload_id).await.unwrap().state(), UploadState::Completed);
}

async fn a_file_that_has_changed_on_its_disk_is_found_and_the_others_are_whole() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let mut ids = Vec::new();
    for seed in 0..5 {
        let upload = owner.create(house::clip()).await.unwrap();
        owner.write(&upload.upload_id, 0, &pattern(30_000 + seed)).await.unwrap();
        owner.complete(&upload.upload_id).await.unwrap();
        ids.push(upload.upload_id);
    }
    ids.sort();
    house.spoil(&ids[1], |file| file[17] ^= 1);
    house.spoil(&ids[3], |file| file.truncate(100));
    let mut worker = house.connect("service").await;
    let (mut checked, mut corrupt, mut page_token) = (0, Vec::new(), String::new());
    loop {
        let page = worker.client.verify_objects(VerifyObjectsRequest { limit: 2, page_token }).await.unwrap().into_inner();
        checked += page.checked;
        corrupt.extend(page.corrupt_upload_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((checked, corrupt), (5, vec![ids[1].clone(), ids[3].clone()]));
}

async fn malformed_requests_name_their_field() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let no_name = owner.create(CreateUploadRequest::default()).await.unwrap_err();
    assert_eq!((no_name.code(), no_name.message()), (Code::InvalidArgument, "filename: must name a file"));
    let chunk_first = WriteUploadRequest { part: Some(Part::Chunk(b"x".to_vec().into())) };
    let refused = owner.client.write_upload(tokio_stream::iter([chunk_first])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let upload = owner.create(house::clip()).await.unwrap();
    let twice = [header(&upload.upload_id, 0), header(&upload.upload_id, 0)];
    let refused = owner.client.write_upload(tokio_stream::iter(twice)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let empty_gate = Rule { kind: Some(Kind::All(Default::default())) };
    let refused = owner.create(CreateUploadRequest { gate: Some(empty_gate), ..house::clip() }).await.unwrap_err();
    assert!(refused.message().starts_with("gate"), "{}", refused.message());
    let gate = Rule { kind: Some(Kind::SignedIn(SignedIn {})) };
    owner.create(CreateUploadRequest { gate: Some(gate), ..house::clip() }).await.unwrap();
}

async fn nobody_without_an_account_owns_an_upload() {
    let house = House::new().await;
    let refused = house.connect("service").await.create(house::clip()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "credentials_missing"));
    let rows = sqlx::query("SELECT count(*) FROM uploads").fetch_one(house.db.pool()).await.unwrap();
    assert_eq!(rows.get::<i64, _>(0), 0);
}

streamgate_testkit::on_both_engines! {
    house:
    a_file_that_was_sent_whole_is_completed_and_told_of_once,
    an_upload_goes_on_after_a_cut_and_a_restart_without_losing_a_byte,
    bytes_at_another_offset_are_refused_and_the_right_one_is_said,
    one_call_writes_at_a_time,
    a_file_that_is_not_the_announced_one_is_not_completed,
    more_bytes_than_announced_or_taken_are_refused,
    the_same_request_id_gives_the_same_upload_and_another_body_is_refused,
    metadata_being_away_is_said_and_repeating_the_call_makes_one_title,
    a_foreign_caller_finds_nothing_and_an_operator_everything,
    a_list_goes_through_all_pages_newest_first,
    an_account_has_a_bounded_number_of_open_uploads,
    cancelling_stops_the_writer_and_deletes_the_bytes,
    a_sweep_ends_what_has_expired_and_nothing_else,
    a_crash_between_sealing_and_the_commit_is_made_good_by_completing_again,
    a_silent_client_is_let_go_and_its_bytes_stay,
    a_purged_title_takes_its_source_and_its_open_upload_with_it,
    a_file_that_has_changed_on_its_disk_is_found_and_the_others_are_whole,
    malformed_requests_name_their_field,
    nobody_without_an_account_owns_an_upload,
}
