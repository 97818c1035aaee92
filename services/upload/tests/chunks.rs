//! Chunks that come in any order, and the quotas of an account, over a real connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod house;

use house::{Caller, House, reason, sha256};
use streamgate_proto::streamgate::{
    events::v1::event::Payload,
    upload::v1::{
        ChunkNumbering, CreateUploadRequest, ReceivedRange, UploadChunkRequest, UploadState, WriteChunkHeader, WriteChunkRequest,
        upload_chunk_request::Place, write_chunk_header, write_chunk_request::Part,
    },
};
use streamgate_upload::Config;
use tonic::{Code, Status};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 11 % 251).unwrap()).collect()
}

fn at(upload_id: &str, place: Place, data: &[u8]) -> UploadChunkRequest {
    UploadChunkRequest { upload_id: upload_id.into(), place: Some(place), data: data.to_vec().into(), sha256: sha256(data) }
}

async fn put(owner: &mut Caller, upload_id: &str, place: Place, data: &[u8]) -> Result<(u64, u32), Status> {
    let answer = owner.client.upload_chunk(at(upload_id, place, data)).await?.into_inner();
    assert_eq!(answer.chunk.unwrap().sha256, sha256(data));
    Ok((answer.received_bytes, answer.chunk_count))
}

fn ranges(of: &[(u64, u64)]) -> Vec<ReceivedRange> {
    of.iter().map(|&(start, end)| ReceivedRange { start, end }).collect()
}

async fn chunks_in_any_order_become_the_file() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let body = pattern(350_000);
    let pieces: Vec<&[u8]> = body.chunks(100_000).collect();
    let id = owner.create(CreateUploadRequest { size_bytes: 350_000, ..house::clip() }).await.unwrap().upload_id;
    for index in [3, 0, 2, 1] {
        put(&mut owner, &id, Place::Index(index), pieces[index as usize]).await.unwrap();
    }
    let whole = owner.get(&id).await.unwrap();
    assert_eq!((whole.received_bytes, whole.chunk_count, whole.offset_bytes), (350_000, 4, 350_000));
    assert_eq!((whole.chunk_numbering(), whole.received), (ChunkNumbering::Index, ranges(&[(0, 4)])));

    let completed = owner.complete(&id).await.unwrap();
    assert_eq!((completed.sha256.as_str(), completed.size_bytes), (sha256(&body).as_str(), 350_000));
    assert_eq!(owner.complete(&id).await.unwrap().sha256, completed.sha256);
    let told = house.events().await;
    let [Payload::FileUploaded(uploaded)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(house.source(&uploaded.source_key).await, body);
    assert_eq!(house.stored_files(), 1, "the chunks are gone");
}

async fn chunks_by_offset_say_what_has_come_and_what_is_missing() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    put(&mut owner, &id, Place::OffsetBytes(10), b"klmno").await.unwrap();
    put(&mut owner, &id, Place::OffsetBytes(0), b"abcde").await.unwrap();
    let some = owner.get(&id).await.unwrap();
    assert_eq!((some.received, some.offset_bytes, some.received_bytes), (ranges(&[(0, 5), (10, 15)]), 5, 10));
    let gap = owner.complete(&id).await.unwrap_err();
    assert_eq!((gap.code(), reason(&gap).as_str()), (Code::FailedPrecondition, "upload_has_gap"));
    assert!(gap.message().contains("byte 5"), "{}", gap.message());
    put(&mut owner, &id, Place::OffsetBytes(5), b"fghij").await.unwrap();
    assert_eq!(owner.complete(&id).await.unwrap().sha256, sha256(b"abcdefghijklmno"));
}

async fn a_chunk_sent_again_counts_once_and_another_at_its_place_is_refused() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    assert_eq!(put(&mut owner, &id, Place::OffsetBytes(0), b"abcde").await.unwrap(), (5, 1));
    assert_eq!(put(&mut owner, &id, Place::OffsetBytes(0), b"abcde").await.unwrap(), (5, 1));
    let unsaid = UploadChunkRequest { sha256: String::new(), ..at(&id, Place::OffsetBytes(0), b"abcde") };
    assert_eq!(owner.client.upload_chunk(unsaid).await.unwrap().into_inner().chunk_count, 1);
    for (place, data) in [(0, &b"ABCDE"[..]), (0, b"abc"), (3, b"de"), (4, b"efg")] {
        let refused = put(&mut owner, &id, Place::OffsetBytes(place), data).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "chunk_conflict"), "{place}");
    }
    assert_eq!(house.stored_files(), 1);
}

async fn a_chunk_with_another_checksum_is_refused_and_leaves_nothing() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let wrong = UploadChunkRequest { sha256: sha256(b"other"), ..at(&id, Place::Index(0), b"bytes") };
    let refused = owner.client.upload_chunk(wrong).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "chunk_sha256_mismatch"));
    let empty = owner.client.upload_chunk(at(&id, Place::Index(0), b"")).await.unwrap_err();
    assert_eq!(reason(&empty), "empty_chunk");
    let nowhere = UploadChunkRequest { place: None, ..at(&id, Place::Index(0), b"bytes") };
    assert_eq!(owner.client.upload_chunk(nowhere).await.unwrap_err().code(), Code::InvalidArgument);
    let malformed = UploadChunkRequest { sha256: "AB".into(), ..at(&id, Place::Index(0), b"bytes") };
    assert_eq!(owner.client.upload_chunk(malformed).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!((house.stored_files(), owner.get(&id).await.unwrap().chunk_count), (0, 0));
}

async fn an_upload_takes_its_bytes_in_one_way() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let streamed = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&streamed, 0, b"abc").await.unwrap();
    let refused = put(&mut owner, &streamed, Place::OffsetBytes(3), b"def").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "upload_comes_another_way"));
    let chunked = owner.create(house::clip()).await.unwrap().upload_id;
    put(&mut owner, &chunked, Place::Index(0), b"abc").await.unwrap();
    assert_eq!(reason(&owner.write(&chunked, 0, b"abc").await.unwrap_err()), "upload_comes_another_way");
    let mixed = put(&mut owner, &chunked, Place::OffsetBytes(3), b"def").await.unwrap_err();
    assert_eq!(reason(&mixed), "upload_comes_another_way");
}

async fn chunks_survive_a_restart_and_a_completion_that_was_cut_short() {
    let mut house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let body = pattern(250_000);
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    for (index, piece) in body.chunks(100_000).enumerate() {
        put(&mut owner, &id, Place::Index(u32::try_from(index).unwrap()), piece).await.unwrap();
    }
    // As a crash in the middle of the second chunk leaves it.
    house.begin_joining(&id, &body[..150_000]).await;
    house.restart().await;
    let mut owner = house.connect("creator-1").await;
    assert_eq!(owner.get(&id).await.unwrap().received_bytes, 250_000);
    let late = put(&mut owner, &id, Place::Index(3), b"late").await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::Aborted, "upload_busy"));
    assert_eq!(owner.complete(&id).await.unwrap().sha256, sha256(&body));
    assert_eq!(house.stored_files(), 1);
}

async fn a_large_chunk_is_streamed_and_a_broken_one_is_not_kept() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let body = pattern(3_000_000);
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let place = Some(write_chunk_header::Place::Index(0));
    let header = WriteChunkHeader { upload_id: id.clone(), place, sha256: sha256(&body), size_bytes: 3_000_000 };
    let message = |part| WriteChunkRequest { part: Some(part) };
    let data = |bytes: &[u8]| bytes.chunks(500_000).map(|piece| message(Part::Data(piece.to_vec().into()))).collect::<Vec<_>>();

    let short = [vec![message(Part::Header(header.clone()))], data(&body[..2_000_000])].concat();
    let broken = owner.client.write_chunk(tokio_stream::iter(short)).await.unwrap_err();
    assert_eq!(reason(&broken), "stream_broken");
    assert_eq!(house.stored_files(), 0);

    let whole = [vec![message(Part::Header(header))], data(&body)].concat();
    let written = owner.client.write_chunk(tokio_stream::iter(whole)).await.unwrap().into_inner();
    assert_eq!((written.received_bytes, written.chunk.unwrap().size_bytes), (3_000_000, 3_000_000));
    assert_eq!(owner.complete(&id).await.unwrap().sha256, sha256(&body));
}

async fn chunks_are_bounded_in_number_and_size() {
    let config = Config { max_chunk_bytes: 10, max_chunks: 2, max_size_bytes: 25, ..Config::default() };
    let house = House::with(config).await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let large = put(&mut owner, &id, Place::Index(0), b"elevenbytes").await.unwrap_err();
    assert_eq!(reason(&large), "chunk_too_large");
    put(&mut owner, &id, Place::Index(0), b"0123456789").await.unwrap();
    put(&mut owner, &id, Place::Index(1), b"0123456789").await.unwrap();
    let third = put(&mut owner, &id, Place::Index(2), b"0").await.unwrap_err();
    assert_eq!((third.code(), reason(&third).as_str()), (Code::ResourceExhausted, "too_many_chunks"));

    let small = owner.create(CreateUploadRequest { size_bytes: 4, ..house::clip() }).await.unwrap().upload_id;
    let past = put(&mut owner, &small, Place::OffsetBytes(2), b"abc").await.unwrap_err();
    assert_eq!(reason(&past), "file_too_large");
}

async fn cancelling_and_expiring_delete_the_chunks() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = owner.create(house::clip()).await.unwrap().upload_id;
        put(&mut owner, &id, Place::Index(5), b"bytes").await.unwrap();
        ids.push(id);
    }
    assert_eq!(house.stored_files(), 2);
    assert_eq!(owner.cancel(&ids[0]).await.unwrap().state(), UploadState::Cancelled);
    assert_eq!(reason(&put(&mut owner, &ids[0], Place::Index(6), b"more").await.unwrap_err()), "upload_closed");
    house.expire(&ids[1..]).await;
    assert_eq!(house.connect("service").await.sweep(0).await.expired, 1);
    assert_eq!(house.stored_files(), 0);
}

async fn the_hash_that_is_named_at_the_end_must_be_the_right_one() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&id, 0, b"bytes").await.unwrap();
    assert_eq!(reason(&owner.complete_as(&id, &sha256(b"other")).await.unwrap_err()), "sha256_mismatch");
    assert_eq!(owner.complete_as(&id, "AB").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(owner.complete_as(&id, &sha256(b"bytes")).await.unwrap().state(), UploadState::Completed);
    assert_eq!(reason(&owner.complete_as(&id, &sha256(b"other")).await.unwrap_err()), "sha256_mismatch");
}

async fn an_account_keeps_no_more_bytes_than_its_quota() {
    let house = House::with(Config { account_bytes: 100, ..Config::default() }).await;
    let mut owner = house.connect("creator-1").await;
    let sized = |size_bytes| CreateUploadRequest { size_bytes, ..house::clip() };
    let announced = owner.create(sized(60)).await.unwrap().upload_id;
    let over = owner.create(sized(41)).await.unwrap_err();
    assert_eq!((over.code(), reason(&over).as_str()), (Code::ResourceExhausted, "storage_quota_used_up"));
    assert!(over.message().contains("100") && over.message().contains("60"), "{}", over.message());
    let hinted = CreateUploadRequest { expected_bytes: 41, ..house::clip() };
    assert_eq!(reason(&owner.create(hinted).await.unwrap_err()), "storage_quota_used_up");

    // Of an upload whose size is not known, what comes counts.
    let open = owner.create(house::clip()).await.unwrap().upload_id;
    assert_eq!(reason(&owner.write(&open, 0, &pattern(41)).await.unwrap_err()), "file_too_large");
    owner.write(&open, 0, &pattern(40)).await.unwrap();
    assert_eq!(reason(&owner.write(&open, 40, b"x").await.unwrap_err()), "storage_quota_used_up");
    let chunked = owner.create(house::clip()).await;
    let chunked = chunked.unwrap().upload_id;
    assert_eq!(reason(&put(&mut owner, &chunked, Place::Index(0), b"x").await.unwrap_err()), "storage_quota_used_up");

    // Another account has its own, and what is thrown away counts no more.
    house.connect("creator-2").await.create(sized(100)).await.unwrap();
    owner.cancel(&announced).await.unwrap();
    put(&mut owner, &chunked, Place::Index(0), b"x").await.unwrap();
    owner.complete(&chunked).await.unwrap();
    assert_eq!(reason(&owner.create(sized(60)).await.unwrap_err()), "storage_quota_used_up");
    owner.create(sized(59)).await.unwrap();
}

async fn an_account_begins_a_bounded_number_of_uploads_a_day() {
    let house = House::with(Config { account_uploads_per_day: 2, ..Config::default() }).await;
    // A midnight in between gives an account two more, so another account tries again on the new day.
    let (refused, number) = loop {
        let (today, number) = (day(), house.titles.uploads().len());
        let mut owner = house.connect(&format!("creator-{number}")).await;
        let first = owner.create(house::clip()).await.unwrap();
        owner.create(house::clip()).await.unwrap();
        owner.cancel(&first.upload_id).await.unwrap();
        let third = owner.create(house::clip()).await;
        if day() == today {
            break (third.unwrap_err(), number);
        }
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "daily_quota_used_up"));
    let wait = streamgate_core::Failure::from(&refused).retry_after.unwrap();
    assert!(wait.as_secs() <= 24 * 60 * 60);
    house.connect(&format!("creator-{}", number + 1)).await.create(house::clip()).await.unwrap();
}

/// Days since 1970.
fn day() -> i64 {
    streamgate_core::time::now_ms().div_euclid(24 * 60 * 60 * 1000)
}

async fn a_disk_without_room_is_said_before_a_byte_is_taken() {
    let house = House::new().await;
    let mut owner = house.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let chunked = owner.create(house::clip()).await.unwrap().upload_id;
    house.room.leave(1_000);
    let large = owner.create(CreateUploadRequest { size_bytes: 1_001, ..house::clip() }).await.unwrap_err();
    assert_eq!((large.code(), reason(&large).as_str()), (Code::ResourceExhausted, "storage_full"));
    house.room.leave(0);
    assert_eq!(reason(&owner.write(&id, 0, b"bytes").await.unwrap_err()), "storage_full");
    assert_eq!(reason(&put(&mut owner, &chunked, Place::Index(0), b"bytes").await.unwrap_err()), "storage_full");
    assert_eq!(reason(&owner.create(house::clip()).await.unwrap_err()), "storage_full");
    house.room.leave(u64::MAX);
    owner.write(&id, 0, b"bytes").await.unwrap();
    owner.complete(&id).await.unwrap();
}

streamgate_testkit::on_both_engines! {
    house:
    chunks_in_any_order_become_the_file,
    chunks_by_offset_say_what_has_come_and_what_is_missing,
    a_chunk_sent_again_counts_once_and_another_at_its_place_is_refused,
    a_chunk_with_another_checksum_is_refused_and_leaves_nothing,
    an_upload_takes_its_bytes_in_one_way,
    chunks_survive_a_restart_and_a_completion_that_was_cut_short,
    a_large_chunk_is_streamed_and_a_broken_one_is_not_kept,
    chunks_are_bounded_in_number_and_size,
    cancelling_and_expiring_delete_the_chunks,
    the_hash_that_is_named_at_the_end_must_be_the_right_one,
    an_account_keeps_no_more_bytes_than_its_quota,
    an_account_begins_a_bounded_number_of_uploads_a_day,
    a_disk_without_room_is_said_before_a_byte_is_taken,
}
