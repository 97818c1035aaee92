//! Two replicas of the service over one PostgreSQL and one S3 server, and a database whose answers get lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod house;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use house::{BOUND, House, Meddled, more, reason, sha256};
use streamgate_proto::streamgate::{
    events::v1::event::Payload,
    upload::v1::{UploadChunkRequest, UploadState, upload_chunk_request::Place},
};
use streamgate_store::{BlobKey, Database, PostgresServer, S3Bucket, open_blobs, open_bucket};
use streamgate_testkit::engines::{Postgres, S3};
use streamgate_upload::{Config, MIGRATIONS};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::Code;

/// The servers that replicas share.
struct Town {
    postgres: Postgres,
    bucket: S3,
}

impl Town {
    async fn start() -> Self {
        Self { postgres: Postgres::start().await.unwrap(), bucket: S3::start_conditional().await.unwrap() }
    }

    async fn replica(&self, config: Config) -> (House, Arc<Meddled>) {
        let db = connect(&self.postgres.url()).await;
        let s3 = &self.bucket;
        let bucket = S3Bucket::new(&s3.url(), s3.region(), s3.bucket(), s3.access_key(), s3.secret_key()).unwrap();
        let store = Arc::new(Meddled::new(open_bucket(&bucket).unwrap()));
        (House::over(tempfile::tempdir().unwrap(), config, db, store.clone()).await, store)
    }
}

async fn connect(url: &str) -> Database {
    Database::connect(&PostgresServer::parse(url).unwrap(), "upload", &MIGRATIONS).await.unwrap()
}

fn source(id: &str) -> BlobKey {
    BlobKey::new(format!("sources/{id}")).unwrap()
}

/// Nothing is stored of an upload that was ended, and nothing is held for it.
async fn assert_nothing_is_left(house: &House, id: &str) {
    assert_eq!(house.blobs.open_length(&source(id)).await.unwrap(), None);
    assert!(house.blobs.head(&source(id)).await.is_err());
    let of_open = house.number("SELECT CAST(coalesce(sum(held_bytes), 0) AS BIGINT) FROM uploads WHERE state = 'open'").await;
    assert_eq!(house.number("SELECT held_bytes FROM accounts").await, of_open);
}

#[tokio::test]
async fn bytes_that_came_until_the_file_was_sealed_belong_to_it() {
    let town = Town::start().await;
    let (here, store) = town.replica(Config::default()).await;
    let (there, _) = town.replica(Config::default()).await;
    let (mut owner, mut elsewhere) = (here.connect("creator-1").await, there.connect("creator-1").await);
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    elsewhere.write(&id, 0, b"12345").await.unwrap();
    let writing = id.clone();
    store.once("seal", async move {
        elsewhere.write(&writing, 5, b"6789").await.unwrap();
    });

    let completed = owner.complete(&id).await.unwrap();
    assert_eq!((completed.size_bytes, completed.sha256.as_str()), (9, sha256(b"123456789").as_str()));
    let told = here.events().await;
    let [Payload::FileUploaded(uploaded)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((uploaded.size_bytes, &uploaded.sha256), (9, &completed.sha256));
    assert_eq!(there.source(&uploaded.source_key).await, b"123456789");
}

#[tokio::test]
async fn a_writer_leaves_nothing_of_an_upload_that_was_ended_on_another_replica() {
    let town = Town::start().await;
    let (here, _) = town.replica(Config::default()).await;
    let (there, _) = town.replica(Config::default()).await;
    let mut owner = here.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let (sender, writing) = owner.begin_writing(&id, b"first").await;
    owner.until_offset(&id, 5).await;

    there.connect("creator-1").await.cancel(&id).await.unwrap();
    sender.send(more(b"second")).await.unwrap();
    drop(sender);
    let refused = timeout(BOUND, writing).await.unwrap().unwrap().unwrap_err();
    assert_eq!(reason(&refused), "upload_ended");
    assert_nothing_is_left(&here, &id).await;
}

#[tokio::test]
async fn a_writer_hears_that_its_upload_was_ended_on_another_replica() {
    let town = Town::start().await;
    let config = Config { expire_after_ms: 4_000, ..Config::default() };
    let (here, _) = town.replica(config.clone()).await;
    let (there, _) = town.replica(config).await;
    let mut owner = here.connect("creator-1").await;
    let id = owner.create(house::clip()).await.unwrap().upload_id;
    let (sender, writing) = owner.begin_writing(&id, b"first").await;
    owner.until_offset(&id, 5).await;

    there.connect("creator-1").await.cancel(&id).await.unwrap();
    let refused = timeout(BOUND, writing).await.expect("the client need not end its stream").unwrap().unwrap_err();
    assert_eq!(reason(&refused), "upload_ended");
    drop(sender);
    assert_nothing_is_left(&here, &id).await;
}

#[tokio::test]
async fn an_upload_that_is_ended_while_it_is_completed_elsewhere_is_not_completed() {
    let town = Town::start().await;
    let (here, store) = town.replica(Config::default()).await;
    let (there, _) = town.replica(Config::default()).await;
    let (mut owner, mut elsewhere) = (here.connect("creator-1").await, there.connect("creator-1").await);
    let streamed = owner.create(house::clip()).await.unwrap().upload_id;
    owner.write(&streamed, 0, b"bytes").await.unwrap();
    let chunked = owner.create(house::clip()).await.unwrap().upload_id;
    let (place, data) = (Some(Place::Index(0)), b"chunk");
    let chunk = UploadChunkRequest { upload_id: chunked.clone(), place, data: data.to_vec().into(), sha256: String::new() };
    owner.client.upload_chunk(chunk).await.unwrap();

    for (id, before) in [(&streamed, "seal"), (&chunked, "append")] {
        let (mut elsewhere, ended) = (elsewhere.clone(), id.clone());
        let ending = async move { assert_eq!(elsewhere.cancel(&ended).await.unwrap().state(), UploadState::Cancelled) };
        store.once(before, ending);
        let refused = owner.complete(id).await.unwrap_err();
        assert_eq!(reason(&refused), "upload_closed", "{refused:?}");
        assert_nothing_is_left(&here, id).await;
    }
    assert_eq!(elsewhere.get(&streamed).await.unwrap().state(), UploadState::Cancelled);
    let told = here.events().await;
    assert!(told.iter().all(|event| matches!(event, Payload::UploadAbandoned(_))), "{told:?}");
}

/// Stands before a server, and loses its answer to the next commit, connection and all, when told to.
async fn forgetful(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own_port, forgets) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&forgets);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&told)));
        }
    });
    (own_port, forgets)
}

async fn carry(mut client: TcpStream, mut server: TcpStream, forgets: Arc<AtomicBool>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut loses_the_next = false;
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                let is_commit = asked[..count].windows(6).any(|word| word == b"COMMIT");
                loses_the_next = is_commit && forgets.swap(false, Ordering::SeqCst);
                server.write_all(&asked[..count]).await.unwrap();
            }
            count = server.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                if loses_the_next || client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_chunk_whose_commit_was_not_answered_is_kept() {
    let postgres = Postgres::start().await.unwrap();
    let (port, forgets) = forgetful(postgres.port()).await;
    let db = connect(&postgres.url().replace(&format!(":{}/", postgres.port()), &format!(":{port}/"))).await;
    let folder = tempfile::tempdir().unwrap();
    let blobs = open_blobs(&folder.path().join("blobs")).unwrap();
    let house = House::over(folder, Config::default(), db, blobs).await;
    let mut owner = house.connect("creator-1").await;

    for sha256 in [sha256(b"chunk"), String::new()] {
        let id = owner.create(house::clip()).await.unwrap().upload_id;
        let (place, data) = (Some(Place::Index(0)), b"chunk".to_vec().into());
        let chunk = UploadChunkRequest { upload_id: id.clone(), place, data, sha256 };
        forgets.store(true, Ordering::SeqCst);
        let lost = owner.client.upload_chunk(chunk.clone()).await.unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
        assert_eq!(house.number("SELECT count(*) FROM upload_chunks").await, 1, "it was committed all the same");
        // As a client does that was told to try again.
        assert_eq!(owner.client.upload_chunk(chunk).await.unwrap().into_inner().chunk_count, 1);
        assert_eq!(owner.complete(&id).await.unwrap().size_bytes, 5);
    }
}
