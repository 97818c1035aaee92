//! Where state is kept: blobs, a service's database, and the events that leave it.
//!
//! - [`BlobStore`] keeps media bytes; [`open_blobs`] gives the engine on a local folder, [`MemoryBlobs`]
//!   is the one in memory, and [`conformance`] proves the contract for any engine.
//! - [`Database`] is one service's rows, in a SQLite file or on a PostgreSQL server, with many readers
//!   and one writer.
//! - [`Outbox`] carries events out of a transaction to their consumers, [`Inbox`] and
//!   [`event_server`] take them in.

mod blob;
pub mod conformance;
mod database;
mod error;
mod file;
mod files;
mod inbox;
mod key;
mod memory;
mod outbox;
mod relay;
mod s3;

pub use blob::{BlobInfo, BlobStore, ByteStream, bytes, collect};
pub use database::{BadServer, Database, DatabaseKind, Migrations, PostgresServer, Transaction};
pub use error::{Error, Result};
pub use file::{FileBlobs, open_blobs};
pub use inbox::{EventHandler, Events, Inbox, event_server};
pub use key::{BadKey, BlobKey};
pub use memory::MemoryBlobs;
pub use outbox::Outbox;
pub use relay::Delivery;
pub use s3::{BadBucket, S3Blobs, S3Bucket, open_bucket};
