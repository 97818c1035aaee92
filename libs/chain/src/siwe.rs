//! Sign-in messages (EIP-4361): a strict parser, a printer, and the checks a server must make.
//!
//! A text parses only if printing what was read gives the same text again, byte for byte.

mod grammar;
mod parse;

use std::fmt;

use streamgate_core::{
    evm::{Address, ChainId},
    time::UnixMillis,
};

pub use grammar::BadMoment;

/// A sign-in message, every field checked against the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    scheme: Option<String>,
    domain: String,
    address: Address,
    statement: Option<String>,
    uri: String,
    chain: ChainId,
    nonce: String,
    issued_at: Moment,
    expires_at: Option<Moment>,
    not_before: Option<Moment>,
    request_id: Option<String>,
    resources: Option<Vec<String>>,
}

/// A time as it stands in the message (RFC 3339), and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    text: String,
    at: UnixMillis,
}

/// Fields of a message before they are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Scheme in front of the domain, such as `https`. Most messages have none.
    pub scheme: Option<String>,
    /// Authority of the page that asks, such as `video.example:8080`.
    pub domain: String,
    /// Address with its EIP-55 checksum.
    pub address: String,
    /// One line for the person who signs.
    pub statement: Option<String>,
    /// What is signed in to.
    pub uri: String,
    /// Only "1" is known.
    pub version: String,
    /// EIP-155 number.
    pub chain_id: String,
    /// At least 8 letters or digits.
    pub nonce: String,
    /// RFC 3339.
    pub issued_at: String,
    /// RFC 3339.
    pub expiration_time: Option<String>,
    /// RFC 3339.
    pub not_before: Option<String>,
    /// Any id of the server's.
    pub request_id: Option<String>,
    /// More URIs.
    pub resources: Option<Vec<String>>,
}

/// Why a text is no sign-in message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A line is missing or out of order.
    #[error("line {line}: expected {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// A field breaks the grammar.
    #[error("{field} {what}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Reads, but would be printed differently: some digits or spaces are not canonical.
    #[error("the message is not in its canonical form")]
    NotCanonical,
    /// Longer than any honest message.
    #[error("the message is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// Bytes of a message at the most.
pub const MAX_BYTES: usize = 4096;

/// What a server compares a message with. Nothing is optional: a check left out is a check that fails open.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Authority that the page was served from.
    pub domain: &'a str,
    /// Nonce that was handed out.
    pub nonce: &'a str,
    /// The time now.
    pub now: UnixMillis,
}

/// Why a well-formed message does not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It was made for another site.
    #[error("the message is for another domain")]
    Domain,
    /// It was made for another challenge.
    #[error("the message has another nonce")]
    Nonce,
    /// Its time is over.
    #[error("the message has expired")]
    Expired,
    /// Its time has not come.
    #[error("the message is not valid yet")]
    NotYet,
}

impl Message {
    /// Checks the fields of a draft.
    ///
    /// # Errors
    /// The first field that breaks the grammar.
    pub fn new(draft: Draft) -> Result<Self, BadMessage> {
        parse::check(draft)
    }

    /// Reads a text, strictly.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadMessage> {
        if text.len() > MAX_BYTES {
            return Err(BadMessage::TooLong);
        }
        let message = parse::check(parse::split(text)?)?;
        if message.to_string() == text { Ok(message) } else { Err(BadMessage::NotCanonical) }
    }

    /// Compares with what the server expects. At the very instant of its expiry a message has expired.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), Mismatch> {
        if self.domain != expected.domain {
            return Err(Mismatch::Domain);
        }
        if self.nonce != expected.nonce {
            return Err(Mismatch::Nonce);
        }
        if self.expires_at.as_ref().is_some_and(|expiry| expected.now >= expiry.at) {
            return Err(Mismatch::Expired);
        }
        if self.not_before.as_ref().is_some_and(|start| expected.now < start.at) {
            return Err(Mismatch::NotYet);
        }
        Ok(())
    }

    /// Whose key must have signed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The chain the wallet is on.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Authority of the page that asked.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// When it was made.
    #[must_use]
    pub const fn issued_at(&self) -> UnixMillis {
        self.issued_at.at
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}{}\n{}\n\n", self.domain, parse::PREAMBLE, self.address)?;
        if let Some(statement) = &self.statement {
            writeln!(f, "{statement}")?;
        }
        write!(f, "\nURI: {}\nVersion: 1\nChain ID: {}\nNonce: {}", self.uri, self.chain.number(), self.nonce)?;
        write!(f, "\nIssued At: {}", self.issued_at.text)?;
        if let Some(expiry) = &self.expires_at {
            write!(f, "\nExpiration Time: {}", expiry.text)?;
        }
        if let Some(start) = &self.not_before {
            write!(f, "\nNot Before: {}", start.text)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\nRequest ID: {id}")?;
        }
        if let Some(resources) = &self.resources {
            f.write_str("\nResources:")?;
            for resource in resources {
                write!(f, "\n- {resource}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
