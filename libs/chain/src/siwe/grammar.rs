//! The rules of RFC 3986 and RFC 3339 that EIP-4361 builds on. ASCII only, by construction.

use streamgate_core::time::UnixMillis;

/// A text that is no RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time of RFC 3339")]
pub struct BadMoment;

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

const fn is_gen_delim(byte: u8) -> bool {
    matches!(byte, b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@')
}

/// Every byte is allowed, or part of a %-escape.
fn is_escaped(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => bytes.next().is_some_and(|b| b.is_ascii_hexdigit()) && bytes.next().is_some_and(|b| b.is_ascii_hexdigit()),
            other => allowed(other),
        };
        if !good {
            return false;
        }
    }
    true
}

pub(super) fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// `[userinfo@]host[:port]` with a host.
pub(super) fn is_authority(text: &str) -> bool {
    let (user, rest) = text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
    if !user.is_none_or(|user| is_escaped(user, |b| is_unreserved(b) || is_sub_delim(b) || b == b':')) {
        return false;
    }
    if let Some(literal) = rest.strip_prefix('[') {
        let Some((address, port)) = literal.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    !host.is_empty() && port.is_none_or(is_port) && is_escaped(host, |b| is_unreserved(b) || is_sub_delim(b))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

pub(super) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    if !is_scheme(scheme) {
        return false;
    }
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, part)| (rest, Some(part)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, part)| (rest, Some(part)));
    let is_pchar = |b: u8| is_unreserved(b) || is_sub_delim(b) || matches!(b, b':' | b'@');
    let is_tail = |text: &str| is_escaped(text, |b| is_pchar(b) || matches!(b, b'/' | b'?'));
    if !fragment.is_none_or(is_tail) || !query.is_none_or(is_tail) {
        return false;
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            if !is_authority(&rest[..end]) {
                return false;
            }
            &rest[end..]
        }
    };
    is_escaped(path, |b| is_pchar(b) || b == b'/')
}

pub(super) fn is_statement(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| is_unreserved(b) || is_sub_delim(b) || is_gen_delim(b) || b == b' ')
}

pub(super) fn is_nonce(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(super) fn is_request_id(text: &str) -> bool {
    is_escaped(text, |b| is_unreserved(b) || is_sub_delim(b) || matches!(b, b':' | b'@'))
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)` with a day that exists.
pub(super) fn moment(text: &str) -> Result<UnixMillis, BadMoment> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 || bytes[17..19] > b"59"[..] {
        return Err(BadMoment);
    }
    let shape = b"0000-00-00T00:00:00";
    let date_is_shaped =
        shape.iter().zip(bytes).all(|(want, got)| if *want == b'0' { got.is_ascii_digit() } else { want == got });
    let mut zone = &text[19..];
    if let Some(fraction) = zone.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=9).contains(&digits) {
            return Err(BadMoment);
        }
        zone = &fraction[digits..];
    }
    if !date_is_shaped || !is_zone(zone.as_bytes()) {
        return Err(BadMoment);
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| BadMoment)
}

fn is_zone(zone: &[u8]) -> bool {
    match zone {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) && [*h1, *h2] <= *b"23" && [*m1, *m2] <= *b"59"
        }
        _ => false,
    }
}
