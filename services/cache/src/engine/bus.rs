//! Tells watchers what stops being true.

use futures::{Stream, StreamExt as _};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

/// News that a slow watcher may be behind. One that is further behind drops everything instead.
const BUFFER: usize = 1_024;

/// What stops being true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// One key was set anew or removed.
    Key(String),
    /// What has this tag.
    Tag(String),
    /// What has a key that begins so.
    Prefix(String),
    /// Everything.
    Everything,
}

/// The news of one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    news: broadcast::Sender<Invalidation>,
    connected: watch::Sender<bool>,
}

impl Bus {
    /// A bus that hears of everything as soon as it is `connected`.
    #[must_use]
    pub fn new(connected: bool) -> Self {
        Self { news: broadcast::Sender::new(BUFFER), connected: watch::Sender::new(connected) }
    }

    /// Tells all watchers.
    pub fn tell(&self, invalidation: Invalidation) {
        // Nobody watching is no failure.
        let _ = self.news.send(invalidation);
    }

    /// Says that news of other instances may be missed from now on.
    pub fn disconnect(&self) {
        self.connected.send_replace(false);
    }

    /// Says that nothing is missed from now on; what was missed before is made up for.
    pub fn reconnect(&self) {
        self.tell(Invalidation::Everything);
        self.connected.send_replace(true);
    }

    /// Whether nothing is missed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Watchers now.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.news.receiver_count()
    }

    /// News from now on.
    pub fn watch(&self) -> News {
        News(BroadcastStream::new(self.news.subscribe()))
    }
}

/// News of a bus, in order. A watcher that fell too far behind is told to drop everything.
#[derive(Debug)]
pub struct News(BroadcastStream<Invalidation>);

impl Stream for News {
    type Item = Invalidation;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Invalidation>> {
        self.0.poll_next_unpin(context).map(|next| {
            next.map(|news| match news {
                Ok(invalidation) => invalidation,
                Err(BroadcastStreamRecvError::Lagged(_)) => Invalidation::Everything,
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_that_is_too_far_behind_is_told_to_drop_everything() {
        let bus = Bus::new(true);
        let mut slow = bus.watch();
        for number in 0..=BUFFER {
            bus.tell(Invalidation::Key(number.to_string()));
        }
        assert_eq!(slow.next().await.unwrap(), Invalidation::Everything);
        assert_eq!(slow.next().await.unwrap(), Invalidation::Key("1".into()));
    }
}
