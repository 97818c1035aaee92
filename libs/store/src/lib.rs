//! Where state is kept: blobs, a service's database, and the events that leave it.
//!
//! - [`BlobStore`] keeps media bytes; [`open_blobs`] gives the engine on a local folder, [`open_bucket`]
//!   the one on an S3 server, [`MemoryBlobs`] is the one in memory, and [`conformance`] proves the contract for any engine.
//! - [`Database`] is one service's rows, in a SQLite file or on a PostgreSQL server, with many readers
//!   and one writer.
//! - [`EventBus`] carries events: what an [`Outbox`] adds to a transaction goes to its consumers, and
//!   an [`EventHandler`] hears of others'.

mod blob;
pub mod conformance;
mod database;
mod error;
mod events;
mod file;
mod files;
mod key;
mod memory;
mod s3;

pub use blob::{BlobInfo, BlobStore, ByteStream, bytes, collect};
pub use database::{BadServer, Database, DatabaseKind, Migrations, PostgresServer, Transaction};
pub use error::{Error, Result};
pub use events::{Addressee, Admin, Delivery, EventBus, EventHandler, EventMetrics, Events, Inbox, Outbox, Patience, Receipt};
pub use file::{FileBlobs, open_blobs};
pub use key::{BadKey, BlobKey};
pub use memory::MemoryBlobs;
pub use s3::{BadBucket, S3Blobs, S3Bucket, open_bucket};
