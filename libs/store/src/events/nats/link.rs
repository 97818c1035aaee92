//! The connection to NATS, and the stream behind it.

use std::{error::Error, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event as ConnectionEvent,
    connection::State,
    jetstream::{
        self, Context, ErrorCode,
        context::{GetStreamError, GetStreamErrorKind},
        stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream},
    },
};
use streamgate_core::{ErrorKind, Failure, ServiceName, error::chain, events::Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{STREAM, SUBJECTS};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two attempts to connect.
const LONGEST_RECONNECT_WAIT: Duration = Duration::from_secs(1);
/// A silent connection is checked this often.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Largest stream: about two million events. When it is full, events wait in the outboxes.
const MAX_STREAM_BYTES: i64 = 1024 * 1024 * 1024;
/// How long a stream must have been absent before it is made. A server that is still deleting one of the
/// same name would take the new one's files with it.
const ABSENT_FOR: Duration = Duration::from_millis(250);
/// How long NATS itself recognises a repeated message.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// A connection to NATS. It makes itself anew for as long as it lives. Cheap to clone.
#[derive(Clone)]
pub(in crate::events) struct Link {
    client: Client,
    context: Context,
    connections: watch::Receiver<u64>,
    replicas: u8,
    max_age: Duration,
}

impl Link {
    /// Begins to connect. Absent when `stop` came first.
    pub(in crate::events) async fn open(settings: &Settings, own: ServiceName, stop: &CancellationToken) -> Option<Self> {
        let (count, connections) = watch::channel(0);
        let mut tries = 0_u32;
        loop {
            match connect(&settings.nats_url, own, count.clone()).await {
                Ok(client) => {
                    let mut context = jetstream::new(client.clone());
                    context.set_timeout(REQUEST_TIMEOUT);
                    let max_age = Duration::from_secs(u64::from(settings.retain_hours) * 3600);
                    return Some(Self { client, context, connections, replicas: settings.nats_replicas, max_age });
                }
                // The servers need not be there for this: something is wrong with the address itself.
                Err(error) if tries == 0 => tracing::error!(error = %error, "NATS can't be used; events wait in the outbox"),
                Err(error) => tracing::debug!(error = %error, "NATS can't be used yet"),
            }
            tries += 1;
            stop.run_until_cancelled(tokio::time::sleep(LONGEST_RECONNECT_WAIT)).await?;
        }
    }

    /// Counts connections; a new one may lead to a server that has lost something.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) const fn context(&self) -> &Context {
        &self.context
    }

    /// The stream as it is; a failure when it is not there.
    pub(super) async fn stream(&self) -> Result<Stream, Failure> {
        if !self.is_connected() {
            return Err(away("not connected"));
        }
        self.context.get_stream(STREAM).await.map_err(away)
    }

    /// The stream, made when it is not there.
    pub(super) async fn stream_or_new(&self) -> Result<Stream, Failure> {
        if !self.is_connected() {
            return Err(away("not connected"));
        }
        match self.context.get_stream(STREAM).await {
            Ok(stream) => return Ok(stream),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(away(error)),
        }
        tokio::time::sleep(ABSENT_FOR).await;
        self.context.get_or_create_stream(self.config()).await.map_err(away)
    }

    /// Deletes a stream that the server can't read any more. What it held is in the databases.
    pub(super) async fn delete_stream(&self) -> Result<(), Failure> {
        self.context.delete_stream(STREAM).await.map(drop).map_err(away)
    }

    fn config(&self) -> Config {
        Config {
            name: STREAM.to_owned(),
            description: Some("Events of StreamGate on their way; the services' databases are the truth.".to_owned()),
            subjects: vec![SUBJECTS.to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            // Refusing new ones loses nothing: they wait in the outbox. Dropping old ones would.
            discard: DiscardPolicy::New,
            max_bytes: MAX_STREAM_BYTES,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            max_age: self.max_age,
            duplicate_window: DUPLICATE_WINDOW.min(self.max_age),
            num_replicas: usize::from(self.replicas),
            allow_direct: true,
            ..Config::default()
        }
    }

    pub(in crate::events) async fn close(self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(error = %error, "the connection to NATS was not closed in order");
        }
    }
}

fn is_absent(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}

/// What tells this stream from an older one of the same name.
pub(super) fn identity(info: &Info) -> String {
    info.created.unix_timestamp_nanos().to_string()
}

async fn connect(url: &str, own: ServiceName, count: watch::Sender<u64>) -> Result<Client, async_nats::ConnectError> {
    let count = Arc::new(count);
    ConnectOptions::new()
        .name(format!("streamgate-{own}"))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_EVERY)
        .retry_on_initial_connect()
        .reconnect_delay_callback(|tries| {
            LONGEST_RECONNECT_WAIT.min(Duration::from_millis(50).saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX)))
        })
        .event_callback(move |event| {
            let count = Arc::clone(&count);
            async move {
                match event {
                    ConnectionEvent::Connected => {
                        tracing::info!("connected to NATS");
                        count.send_modify(|count| *count += 1);
                    }
                    ConnectionEvent::Disconnected => tracing::warn!("NATS is away; events wait in the outbox"),
                    other => tracing::debug!(event = %other, "NATS says"),
                }
            }
        })
        .connect(url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect::<Vec<_>>())
        .await
}

/// NATS did not do it; the event can wait.
pub(super) fn away(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    let error = error.into();
    let text = chain(error.as_ref());
    Failure::new(ErrorKind::Unavailable, "broker_unavailable", text)
}
