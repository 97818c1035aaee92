//! The first bytes of a connection must come soon.
//!
//! Whether a connection speaks HTTP/1 or HTTP/2 shows in its first bytes, and the server's own header
//! timeout starts only then. Without this bound, a connection that says nothing, or only the
//! beginning of HTTP/2's preface, would hold its place for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose reads fail when it has not shown in time what it speaks.
#[derive(Debug)]
pub(crate) struct Opening<S> {
    inner: S,
    /// Bytes of the preface that have come.
    matched: usize,
    /// Gone once it is clear what the connection speaks.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Opening<S> {
    /// Gives `inner` this long.
    pub(crate) fn within(inner: S, patience: Duration) -> Self {
        Self { inner, matched: 0, deadline: Some(Box::pin(tokio::time::sleep(patience))) }
    }

    fn look_at(&mut self, came: &[u8]) {
        let rest = &PREFACE[self.matched..];
        let compared = rest.len().min(came.len());
        self.matched += compared;
        if rest[..compared] != came[..compared] || self.matched == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return read };
        match &read {
            Poll::Pending if deadline.as_mut().poll(context).is_ready() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Ok(())) => {
                self.look_at(&buffer.filled()[before..]);
                read
            }
            _ => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(40);

    /// What comes of a connection that says `first` and then nothing, read to its end.
    async fn said(first: &[u8]) -> io::Result<usize> {
        let (mut client, server) = duplex(64);
        client.write_all(first).await.unwrap();
        let mut opening = Opening::within(server, PATIENCE);
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE * 2, opening.read_to_end(&mut bytes)).await;
        drop(client);
        read.unwrap_or(Ok(usize::MAX))
    }

    #[tokio::test]
    async fn a_connection_that_does_not_say_what_it_speaks_is_ended() {
        for first in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(said(first).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{first:?}");
        }
    }

    #[tokio::test]
    async fn one_that_has_said_it_may_be_quiet() {
        for first in [&b"G"[..], b"POST", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes"] {
            assert_eq!(said(first).await.unwrap(), usize::MAX, "{first:?}");
        }
    }
}
