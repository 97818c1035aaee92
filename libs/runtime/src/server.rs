//! Listeners and connections.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
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
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{dispatch::Dispatch, opening::Opening};

/// Connections open at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 20_000;
/// Connections that are kept for those who have few: nobody opens one of them who has more than his share. Until then an
/// address may have any number, as a proxy in front of many callers has.
const KEPT_FOR_OTHERS: usize = MAX_CONNECTIONS / 4;
/// Connections of one address that count as few.
const SHARE: usize = MAX_CONNECTIONS / 20;
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
    let room = Room::new(MAX_CONNECTIONS, KEPT_FOR_OTHERS, SHARE);
    while let Some(accepted) = closing.run_until_cancelled(accept(&listener, &room)).await {
        let Some((stream, peer, seat)) = accepted else { continue };
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
            drop(seat);
        });
    }
    drop(listener);
    connections.close();
    if cut.run_until_cancelled(graceful.shutdown()).await.is_none() {
        tracing::info!("some requests did not finish in time and are cut off");
    }
    connections.wait().await;
}

async fn accept(listener: &TcpListener, room: &Arc<Room>) -> Option<(TcpStream, SocketAddr, Seat)> {
    let place = Arc::clone(&room.places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let Some(seat) = room.seat(place, peer.ip()) else {
                tracing::debug!(%peer, "a connection was refused: its address has more than its share, and few are left");
                return None;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "small packets may be slow on this connection");
            }
            Some((stream, peer, seat))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Places for connections, and who has how many.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    kept_for_others: usize,
    share: usize,
    /// Connections by network; those without any are not listed.
    taken: Mutex<HashMap<u128, usize>>,
}

impl Room {
    fn new(places: usize, kept_for_others: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(places)), kept_for_others, share, taken: Mutex::default() })
    }

    /// A seat for a connection from `address`, unless seats are getting scarce and it has enough of them.
    fn seat(self: &Arc<Self>, place: OwnedSemaphorePermit, address: IpAddr) -> Option<Seat> {
        let network = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = taken.entry(network).or_default();
        if *seats >= self.share && self.places.available_permits() < self.kept_for_others {
            return None;
        }
        *seats += 1;
        Some(Seat { room: Arc::clone(self), network, _place: place })
    }
}

/// What an open connection holds.
#[derive(Debug)]
struct Seat {
    room: Arc<Room>,
    network: u128,
    _place: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.network).map_or(0, |seats| seats.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.network);
        } else {
            taken.insert(self.network, left);
        }
    }
}

/// One IPv6 customer has a whole /64.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sit(room: &Arc<Room>, address: &str) -> Option<Seat> {
        room.seat(Arc::clone(&room.places).try_acquire_owned().ok()?, address.parse().unwrap())
    }

    #[test]
    fn one_address_leaves_room_for_others_however_many_connections_it_opens() {
        let room = Room::new(10, 4, 2);
        let mut greedy: Vec<Seat> = (0..10).filter_map(|_| sit(&room, "192.0.2.1")).collect();
        assert_eq!(greedy.len(), 6, "as many as it likes while there are enough");
        let (one, other) = (sit(&room, "192.0.2.2"), sit(&room, "2001:db8::1"));
        assert!(one.is_some() && other.is_some() && sit(&room, "192.0.2.1").is_none());
        greedy.truncate(1);
        assert!(sit(&room, "192.0.2.1").is_some(), "what was given back is free again");
        drop((greedy, one, other));
        assert!(room.taken.lock().unwrap().is_empty());
        assert_eq!(room.places.available_permits(), 10);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let room = Room::new(4, 4, 1);
        let _one = sit(&room, "2001:db8::1").unwrap();
        assert!(sit(&room, "2001:db8::ffff").is_none());
        assert!(sit(&room, "2001:db8:0:1::1").is_some() && sit(&room, "::ffff:192.0.2.1").is_some());
    }
}
