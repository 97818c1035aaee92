//! NATS JetStream as the way that events travel.
//!
//! One stream, [`STREAM`], holds the events of all services. Each service publishes its outbox to
//! it, and reads it with a durable consumer of its own name. The database is the truth: see
//! [`Publisher::keep_verified`] for what happens when the stream is gone.

mod link;
mod listen;
mod publish;

pub(super) use link::Link;
pub(super) use listen::Listener;
pub(super) use publish::Publisher;

/// The stream's name.
const STREAM: &str = "STREAMGATE";
/// Its subjects: `streamgate.<type>`.
const SUBJECTS: &str = "streamgate.>";
/// Header: the one service that a replayed event is for.
const TO_HEADER: &str = "Streamgate-To";
/// Header: the event is to be handled even when it was.
const AGAIN_HEADER: &str = "Streamgate-Again";

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// Tells a stream from one of the same name that was made later.
    pub(super) identity: String,
    /// The last message taken over.
    pub(super) sequence: i64,
}
