//! Listeners and connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use streamgate_core::ServiceName;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{dispatch::Dispatch, opening::Opening};

/// Connections open at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 20_000;
/// How long the first bytes of a connection and the head of an HTTP/1 request may take, and a
/// connection may idle between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection. The edge has one connection to each service.
const MAX_STREAMS: u32 = 2_000;
/// Bytes of headers in one request.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Bytes under way on a stream, and on its connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// How often a quiet HTTP/2 connection is checked, and how long an answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port can't be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(
        "port {port} of {name} is taken by another program: stop that one, or set another port (SERVER_PORT, or server.ports.{key} when several services run in one process)"
    )]
    Taken { name: ServiceName, port: u16, key: String },
    #[error("{name} can't listen on {addr}: {source}")]
    Other { name: ServiceName, addr: SocketAddr, source: io::Error },
}

pub(crate) async fn bind(name: ServiceName, host: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let addr = SocketAddr::new(host, port);
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { name, port, key: crate::config::section_of(name) },
        _ => BindError::Other { name, addr, source },
    })
}

/// Serves until `closing`, then lets connections finish what they do, until `cut` at the latest.
pub(crate) async fn serve(listener: TcpListener, dispatch: Arc<Dispatch>, closing: CancellationToken, cut: CancellationToken) {
    let builder = Arc::new(builder());
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = closing.run_until_cancelled(accept(&listener, &room)).await {
        let Some((stream, peer, permit)) = accepted else { continue };
        let (builder, dispatch, watcher, cut) = (Arc::clone(&builder), Arc::clone(&dispatch), graceful.watcher(), cut.clone());
        connections.spawn(async move {
            let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
                Arc::clone(&dispatch).handle(request)
            });
            let connection =
                builder.serve_connection(TokioIo::new(Opening::within(stream, HEADER_TIMEOUT)), service).into_owned();
            if let Some(Err(error)) = cut.run_until_cancelled(watcher.watch(connection)).await {
                tracing::debug!(%error, "connection ended badly");
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if cut.run_until_cancelled(graceful.shutdown()).await.is_none() {
        tracing::info!("some requests did not finish in time and are cut off");
    }
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "small packets may be slow on this connection");
            }
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
