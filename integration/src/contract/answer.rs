//! What an answer amounts to, over gRPC and over REST.

use bytes::Bytes;

/// The part of an answer that rights are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was done.
    Done,
    /// Who calls is not known.
    Unauthenticated,
    /// Who calls is known, and may not.
    Denied,
    /// The request was refused for another reason that is the caller's own.
    Refused,
    /// The platform says that it is at fault, or not able to.
    Fault,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What it amounts to.
    pub kind: Kind,
    /// Code and message, for people.
    pub said: String,
    /// The message or the JSON.
    pub body: Bytes,
}

impl Answer {
    /// Of a gRPC status.
    #[must_use]
    pub fn of_grpc(code: u32, message: &str, body: Bytes) -> Self {
        let kind = match code {
            0 => Kind::Done,
            16 => Kind::Unauthenticated,
            7 => Kind::Denied,
            // A caller that ends its stream too early has cancelled it.
            1 | 3 | 5 | 6 | 8 | 9 | 10 | 11 => Kind::Refused,
            _ => Kind::Fault,
        };
        Self { kind, said: format!("gRPC {code} {message}"), body }
    }

    /// Of an HTTP status.
    #[must_use]
    pub fn of_http(status: u16, body: Bytes) -> Self {
        let kind = match status {
            200..300 => Kind::Done,
            401 => Kind::Unauthenticated,
            403 => Kind::Denied,
            400..500 => Kind::Refused,
            _ => Kind::Fault,
        };
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        Self { kind, said: format!("HTTP {status} {shown}"), body }
    }

    /// Whether the answer holds `text` somewhere.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        !text.is_empty() && self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}
