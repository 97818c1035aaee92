//! What goes wrong beside an upload, on one replica: neighbours that are away, accounts that are full, files that can't be read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod house;

use std::{
    io,
    sync::{Arc, Mutex},
};

use house::{BOUND, House, reason, sha256};
use streamgate_core::ErrorKind;
use streamgate_proto::streamgate::upload::v1::{
    CreateUploadRequest, UploadChunkRequest, UploadState, VerifyObjectsRequest, upload_chunk_request::Place,
};
use streamgate_store::{BlobKey, Error};
use streamgate_testkit::eventually;
use streamgate_upload::{
    Config,
    command::{ChunkHead, Chunking},
};
use tokio::{sync::oneshot, time::timeout};
use tonic::Code;

fn keyed(request_id: &str, size_bytes: u64) -> CreateUploadRequest {
    CreateUploadRequest { request_id: request_id.into(), size_bytes, ..house::clip() }
}

fn only_chunk(upload_id: &str) -> UploadChunkRequest {
    let (place, data) = (Some(Place::Index(0)), b"chunk");
    UploadChunkRequest { upload_id: upload_id.into(), place, data: data.to_vec().into(), sha256: sha256(data) }
}

async fn creations_that_fail_do_not_lock_an_account() {
    let house = House::with(Config { max_open_uploads: 1, account_bytes: 100, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    house.titles.fail(Some(ErrorKind::Unavailable));
    assert_eq!(owner.create(keyed("first", 100)).await.unwrap_err().code(), Code::Unavailable);
    house.titles.fail(None);

    // While it may still be under way it counts; soon it is no open upload, and then it holds nothing of the quota.
    assert_eq!(reason(&owner.create(keyed("second", 0)).await.unwrap_err()), "too_many_uploads");
    house.change("UPDATE uploads SET created_ms = created_ms - 120000").await;
    assert_eq!(reason(&owner.create(keyed("second", 100)).await.unwrap_err()), "storage_quota_used_up");
    let life = house.number("SELECT expires_ms - created_ms FROM uploads").await;
    assert!(life <= 15 * 60 * 1000, "{life}");
    house.change("UPDATE uploads SET expires_ms = 1").await;
    house.connect("service").await.sweep(0).await;
    assert_eq!(house.number("SELECT count(*) FROM uploads").await, 0);
    assert!(house.events().await.is_empty());

    // Repeating the first call begins anew, with a whole life.
    let upload = owner.create(keyed("first", 100)).await.unwrap();
    assert_eq!(upload.state(), UploadState::Open);
    let life = house.number("SELECT expires_ms - created_ms FROM uploads").await;
    assert!(life >= 23 * 60 * 60 * 1000, "{life}");
}

async fn a_creation_that_is_repeated_goes_on_though_its_time_was_over() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    house.titles.fail(Some(ErrorKind::Unavailable));
    owner.create(keyed("key", 0)).await.unwrap_err();
    // As releases before this one have left it.
    house.change("UPDATE uploads SET state = 'expired', doomed = 1").await;
    house.titles.fail(None);
    let upload = owner.create(keyed("key", 0)).await.unwrap();
    assert_eq!(upload.state(), UploadState::Open);
    owner.write(&upload.upload_id, 0, b"bytes").await.unwrap();
}

async fn uploads_at_once_do_not_each_take_what_is_left_of_a_quota() {
    let house = House::with(Config { account_bytes: 100, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let first = owner.create(house::clip()).await.unwrap().upload_id;
    let second = owner.create(house::clip()).await.unwrap().upload_id;
    let (sender, writing) = owner.begin_writing(&first, &[1; 60]).await;
    owner.until_offset(&first, 60).await;
    let refused = owner.write(&second, 0, &[2; 60]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "storage_quota_used_up"));

    // What was held ahead is given back.
    drop(sender);
    writing.await.unwrap().unwrap();
    assert_eq!(house.number("SELECT held_bytes FROM accounts").await, 60);
    owner.write(&second, 0, &[2; 40]).await.unwrap();
    assert_eq!(house.number("SELECT held_bytes FROM accounts").await, 100);
    owner.cancel(&first).await.unwrap();
    owner.write(&second, 40, &[2; 60]).await.unwrap();
    assert_eq!(house.number("SELECT held_bytes FROM accounts").await, 100);
}

async fn a_store_that_is_busy_with_one_upload_holds_up_no_change_of_others() {
    let (house, store) = House::meddled(Config { account_bytes: 100, ..Config::default() }).await;
    let id = house.connect("creator-1").await.create(house::clip()).await.unwrap().upload_id;
    let mut other = house.connect("creator-2").await;
    store.pause(async move {
        other.create(house::clip()).await.unwrap();
    });
    let body = streamgate_store::bytes("bytes".into());
    let written = house.engine.write(&house::caller("creator-1"), &id.parse().unwrap(), 0, body).await.unwrap();
    assert_eq!(written.offset_bytes, 5);
    assert_eq!(house.number("SELECT CAST(sum(held_bytes) AS BIGINT) FROM accounts").await, 5);
}

async fn bytes_under_way_are_taken_while_the_database_is_away() {
    let (mut house, store) = House::meddled(Config { account_bytes: 10_000_000, ..Config::default() }).await;
    let id = house.connect("creator-1").await.create(house::clip()).await.unwrap().upload_id;
    let db = house.db.clone();
    store.once("append", async move { db.close().await });
    // As long as the database is asked for more than once.
    let body = futures::stream::iter(std::iter::repeat_with(|| Ok(bytes::Bytes::from(vec![7; 1_000_000]))).take(3));
    let told = house.engine.write(&house::caller("creator-1"), &id.parse().unwrap(), 0, Box::pin(body)).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable, "what has come is noted at the end");

    house.restart().await;
    let mut owner = house.connect("creator-1").await;
    assert_eq!(owner.get(&id).await.unwrap().offset_bytes, 3_000_000);
    assert_eq!(owner.complete(&id).await.unwrap().size_bytes, 3_000_000);
    assert_eq!(house.number("SELECT held_bytes FROM accounts").await, 3_000_000);
}

async fn an_upload_does_not_expire_while_it_is_written() {
    let house = House::with(Config { expire_after_ms: 4_000, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let (sender, writing) = owner.begin_writing(&id, b"first").await;
    owner.until_offset(&id, 5).await;
    let before = house.number("SELECT expires_ms FROM uploads").await;
    let renewed = eventually("its time begins anew while the client sends", BOUND, || async {
        Ok((house.number("SELECT expires_ms FROM uploads").await > before).then_some(()))
    });
    renewed.await.unwrap();
    drop(sender);
    writing.await.unwrap().unwrap();
}

async fn what_a_killed_writer_left_of_an_ended_upload_is_looked_for_later() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&id, 0, b"bytes").await.unwrap();
    owner.cancel(&id).await.unwrap();
    assert_eq!(house.stored_files(), 0);
    // As a writer on another replica that had not heard of it.
    let key = BlobKey::new(format!("sources/{id}")).unwrap();
    house.blobs.append(&key, 0, streamgate_store::bytes("late".into())).await.unwrap();
    let mut worker = house.connect("service").await;
    worker.sweep(0).await;
    assert_eq!(house.stored_files(), 1, "its time has not come");
    house.change("UPDATE uploads SET doomed = 3 WHERE doomed > 3").await;
    worker.sweep(0).await;
    assert_eq!((house.stored_files(), house.number("SELECT doomed FROM uploads").await), (0, 0));
}

async fn what_a_killed_try_of_a_chunk_left_is_looked_for_after_the_completion() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let streamed = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&streamed, 0, b"bytes").await.unwrap();
    let chunked = owner.create(house::clip()).await.unwrap().upload_id;
    owner.client.upload_chunk(only_chunk(&chunked)).await.unwrap();
    for id in [&streamed, &chunked] {
        owner.complete(id).await.unwrap();
        let late = BlobKey::new(format!("uploads/{id}/late")).unwrap();
        house.blobs.put(&late, streamgate_store::bytes("late".into())).await.unwrap();
    }
    let mut worker = house.connect("service").await;
    worker.sweep(0).await;
    assert_eq!(house.stored_files(), 4, "its time has not come");
    house.change("UPDATE uploads SET delete_from_ms = 3 WHERE delete_from_ms > 3").await;
    worker.sweep(0).await;
    assert_eq!((house.stored_files(), house.number("SELECT count(*) FROM uploads WHERE doomed <> 0").await), (2, 0));
    assert_eq!(house.source(&format!("sources/{streamed}")).await, b"bytes");
    assert_eq!(house.source(&format!("sources/{chunked}")).await, b"chunk");
}

async fn a_chunk_that_is_stored_counts_though_its_caller_has_gone() {
    let (house, store) = House::meddled(Config::default()).await;
    let id = house.connect("creator-1").await.create(house::clip()).await.unwrap().upload_id;
    let ((stored, is_stored), (goes_on, may_go_on)) = (oneshot::channel(), oneshot::channel::<()>());
    store.once("stored", async move {
        stored.send(()).unwrap();
        let _ = may_go_on.await;
    });
    let (engine, id) = (house.engine.clone(), id.parse().unwrap());
    let head = ChunkHead { chunking: Chunking::Index, place: 0, size_bytes: None, sha256: String::new() };
    let call = async move { engine.chunk(&house::caller("creator-1"), &id, head, streamgate_store::bytes("chunk".into())).await };
    let calling = tokio::spawn(call);
    timeout(BOUND, is_stored).await.unwrap().unwrap();
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    drop(goes_on);
    let counts = eventually("the chunk gets its row", BOUND, || async {
        Ok((house.number("SELECT count(*) FROM upload_chunks").await == 1).then_some(()))
    });
    counts.await.unwrap();
    assert_eq!(house.stored_files(), 1);
}

async fn a_deletion_that_fails_holds_up_no_other() {
    for is_cancelled in [true, false] {
        let (house, store) = House::meddled(Config::default()).await;
        let mut owner = house.connect("creator-1").await;
        store.before(|call, _| {
            let failed = if call == "delete_prefix" { Err(Error::Unavailable(None)) } else { Ok(()) };
            Box::pin(async move { failed })
        });
        for _ in 0..2 {
            let id = owner.create(house::clip()).await.unwrap().upload_id;
            owner.client.upload_chunk(only_chunk(&id)).await.unwrap();
            if is_cancelled {
                owner.cancel(&id).await.unwrap()
            } else {
                owner.complete(&id).await.unwrap()
            };
        }
        assert_eq!(house.number("SELECT count(*) FROM uploads WHERE doomed IN (1, 2)").await, 2);

        house.change("UPDATE uploads SET delete_from_ms = 0").await;
        let asked: Arc<Mutex<Vec<BlobKey>>> = Arc::default();
        let notes = Arc::clone(&asked);
        store.before(move |call, key| {
            let mut asked = notes.lock().unwrap();
            if call == "delete_prefix" {
                asked.push(key.clone());
            }
            let failed = if asked.first() == Some(key) { Err(Error::Unavailable(None)) } else { Ok(()) };
            Box::pin(async move { failed })
        });
        let mut worker = house.connect("service").await;
        assert!(worker.sweep(1).await.more, "the other one waits");
        assert!(!worker.sweep(1).await.more);
        let asked = asked.lock().unwrap().clone();
        assert!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");
    }
}

async fn a_file_that_was_sealed_with_other_bytes_says_how_to_go_on() {
    let (house, store) = House::meddled(Config::default()).await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&id, 0, b"12345").await.unwrap();
    // As a call on another replica.
    let (blobs, key) = (house.blobs.clone(), BlobKey::new(format!("sources/{id}")).unwrap());
    store.once("seal", async move {
        blobs.append(&key, 5, streamgate_store::bytes("6".into())).await.unwrap();
    });
    for _ in 0..2 {
        let differs = owner.complete_as(&id, &sha256(b"12345")).await.unwrap_err();
        assert_eq!(reason(&differs), "sha256_mismatch");
        assert!(differs.message().contains("cancel the upload"), "{}", differs.message());
    }
    let sealed = owner.write(&id, 6, b"7").await.unwrap_err();
    assert_eq!((sealed.code(), reason(&sealed).as_str()), (Code::FailedPrecondition, "upload_closed"));
    assert!(sealed.message().contains("or cancel it"), "{}", sealed.message());
    assert_eq!(owner.cancel(&id).await.unwrap().state(), UploadState::Cancelled);
    assert_eq!(house.stored_files(), 0);
}

async fn bytes_are_thrown_away_after_their_upload_was_ended() {
    let (house, store) = House::meddled(Config::default()).await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&id, 0, b"bytes").await.unwrap();
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let db = house.db.clone();
    store.before(move |call, _| {
        let (sender, db) = (sender.clone(), db.clone());
        Box::pin(async move {
            if call == "discard" {
                let state: String = sqlx::query_scalar("SELECT state FROM uploads").fetch_one(db.pool()).await.unwrap();
                sender.send(state).unwrap();
            }
            Ok(())
        })
    });
    owner.cancel(&id).await.unwrap();
    assert_eq!(ended.recv().await.unwrap(), "cancelled");
}

async fn a_file_that_can_t_be_read_keeps_no_other_from_being_verified() {
    let (house, store) = House::meddled(Config::default()).await;
    let mut owner = house.connect("creator-1").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = owner.create(house::clip()).await.unwrap().upload_id;
        owner.write(&id, 0, b"bytes").await.unwrap();
        owner.complete(&id).await.unwrap();
        ids.push(id);
    }
    ids.sort();
    let (damaged, refused) = (format!("sources/{}", ids[1]), format!("sources/{}", ids[3]));
    store.before(move |call, key| {
        let failed = match key.as_str() {
            key if call == "read" && key == damaged => {
                Err(Error::Io { doing: "read a blob".into(), source: io::Error::other("a bad sector") })
            }
            key if call == "read" && key == refused => Err(Error::Unavailable(None)),
            _ => Ok(()),
        };
        Box::pin(async move { failed })
    });
    let mut worker = house.connect("service").await;
    let (mut checked, mut page_token, mut calls) = (0, String::new(), 0);
    loop {
        let page = worker.client.verify_objects(VerifyObjectsRequest { limit: 2, page_token }).await.unwrap().into_inner();
        assert!(page.corrupt_upload_ids.is_empty(), "nobody knows what is in it");
        checked += page.checked;
        calls += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        assert!(calls < 10, "it stays at one file");
    }
    assert_eq!(checked, 3);

    store.before(|_, _| Box::pin(async { Err(Error::Unavailable(None)) }));
    let away = worker.client.verify_objects(VerifyObjectsRequest::default()).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
}

async fn a_missing_chunk_is_no_missing_upload() {
    let (house, store) = House::meddled(Config::default()).await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.client.upload_chunk(only_chunk(&id)).await.unwrap();
    store.before(|call, key| {
        let gone = if call == "read" { Err(Error::NotFound(key.clone())) } else { Ok(()) };
        Box::pin(async move { gone })
    });
    let failed = owner.complete(&id).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Internal, "internal error"));
}

async fn a_column_that_a_newer_release_adds_breaks_no_call_of_this_one() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&id, 0, b"bytes").await.unwrap();
    // Often enough for each connection to know the statements.
    for _ in 0..20 {
        owner.get(&id).await.unwrap();
        owner.list(0, "").await.unwrap();
    }
    house.change("ALTER TABLE uploads ADD COLUMN of_a_newer_release INTEGER NOT NULL DEFAULT 7").await;
    for _ in 0..20 {
        owner.get(&id).await.unwrap();
        owner.list(0, "").await.unwrap();
    }
    owner.complete(&id).await.unwrap();
}

streamgate_testkit::on_both_engines! {
    house:
    creations_that_fail_do_not_lock_an_account,
    a_creation_that_is_repeated_goes_on_though_its_time_was_over,
    uploads_at_once_do_not_each_take_what_is_left_of_a_quota,
    a_store_that_is_busy_with_one_upload_holds_up_no_change_of_others,
    bytes_under_way_are_taken_while_the_database_is_away,
    an_upload_does_not_expire_while_it_is_written,
    what_a_killed_writer_left_of_an_ended_upload_is_looked_for_later,
    what_a_killed_try_of_a_chunk_left_is_looked_for_after_the_completion,
    a_chunk_that_is_stored_counts_though_its_caller_has_gone,
    a_deletion_that_fails_holds_up_no_other,
    a_file_that_was_sealed_with_other_bytes_says_how_to_go_on,
    bytes_are_thrown_away_after_their_upload_was_ended,
    a_file_that_can_t_be_read_keeps_no_other_from_being_verified,
    a_missing_chunk_is_no_missing_upload,
    a_column_that_a_newer_release_adds_breaks_no_call_of_this_one,
}
