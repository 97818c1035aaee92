//! Takes secrets out of what leaves a process in its log.
//!
//! Nothing logs a secret on purpose. This is for the message of a library that quotes a header or a
//! URL. Where it is not clear whether a word is a secret, it goes.

use std::{borrow::Cow, ops::Range};

/// What stands where a secret was.
const GONE: &str = "[redacted]";
/// A field whose name holds one of these is never sent.
const SECRET_NAMES: [&str; 12] = [
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "signature",
    "private_key",
    "api_key",
    "cookie",
    "mnemonic",
    "credential",
    "bearer",
];
/// Ends of names, in `name=value` and `name: value`, after which the value is a secret.
const SECRET_ASSIGNMENTS: [&str; 21] = [
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "signature",
    "sig",
    "credential",
    "credentials",
    "mnemonic",
    "authorization",
    "bearer",
    COOKIE,
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "private_key",
    "privatekey",
    "secret_key",
    "secretkey",
];
/// Ends of names that are secret in `name=value` only: sentences say "no such key: x".
const SECRET_IN_QUERIES: [&str; 1] = ["key"];
/// Its value is a list, to the end of the line.
const COOKIE: &str = "cookie";
/// Ways of authentication that are followed by a credential.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// Whether a field of this name may hold a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The text without API keys, tokens, passwords in URLs, and values of names such as `token=`.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let mut cleaned = String::new();
    let mut copied = 0;
    let mut place = 0;
    while let Some(word) = next_word(text, place) {
        place = word.end;
        let Some(secret) = secret_at(text, word) else { continue };
        cleaned.push_str(&text[copied..secret.start]);
        cleaned.push_str(GONE);
        (copied, place) = (secret.end, secret.end);
    }
    if copied == 0 { Cow::Borrowed(text) } else { Cow::Owned(cleaned + &text[copied..]) }
}

const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let start = from + text[from..].find(is_word_char)?;
    let length = text[start..].find(|c| !is_word_char(c)).unwrap_or(text.len() - start);
    Some(start..start + length)
}

/// The secret that a word is, or that it announces.
fn secret_at(text: &str, word: Range<usize>) -> Option<Range<usize>> {
    let behind = word.end;
    if is_secret_word(&text[word.clone()]) {
        return Some(word);
    }
    let word = &text[word];
    let secret = after_scheme(text, word, behind).or_else(|| assigned(text, word, behind)).or_else(|| userinfo(text, behind));
    secret.filter(|secret| !secret.is_empty())
}

fn is_secret_word(word: &str) -> bool {
    let is_api_key = word.starts_with("sgk_") && word.len() > 12;
    let is_jwt = word.starts_with("eyJ") && word.bytes().filter(|b| *b == b'.').count() == 2;
    // A private key, or a signature: 64 or more hex digits. Hashes of that length are lost with them.
    let is_long_hex = word.strip_prefix("0x").is_some_and(|hex| hex.len() >= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    is_api_key || is_jwt || is_long_hex
}

/// The credential of `Bearer …` or `Basic …`.
fn after_scheme(text: &str, word: &str, behind: usize) -> Option<Range<usize>> {
    if !SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
        return None;
    }
    let rest = &text[behind..];
    let start = text.len() - rest.trim_start_matches(' ').len();
    (start > behind).then(|| start..until(text, start, is_delimiter))
}

/// The value of `name=value`, `name: value` or `"name":"value"` with the name of a secret.
fn assigned(text: &str, word: &str, behind: usize) -> Option<Range<usize>> {
    let rest = text[behind..].trim_start_matches('\\').trim_start_matches(['"', '\'']).trim_start_matches(' ');
    let is_query = rest.starts_with('=');
    // `token::parse` is a path.
    let is_pair = is_query || rest.starts_with(':') && !rest.starts_with("::");
    if !is_pair || !(ends_in(word, &SECRET_ASSIGNMENTS) || is_query && ends_in(word, &SECRET_IN_QUERIES)) {
        return None;
    }
    let mut value = rest[1..].trim_start_matches(' ');
    // What wraps a value is not it: `Some("…")`, `b"…"`.
    while let Some(inner) = value.trim_start_matches(is_word_char).strip_prefix('(') {
        value = inner;
    }
    if value.starts_with("b\"") {
        value = &value[1..];
    }
    let start = text.len() - value.len();
    if let Some(scheme) = next_word(text, start).filter(|scheme| scheme.start == start)
        && let Some(credential) = after_scheme(text, &text[scheme.clone()], scheme.end)
    {
        return Some(credential);
    }
    Some(match value.chars().next()? {
        '[' => start + 1..until(text, start + 1, |c| c == ']'),
        // A quote in a text that is quoted itself.
        '\\' if value[1..].starts_with('"') => start + 2..until(text, start + 2, |c| c == '\\'),
        quote @ ('"' | '\'') => quoted(text, start + 1, quote),
        _ if ends_in(word, &[COOKIE]) => start..until(text, start, |c| matches!(c, '"' | '\n')),
        _ => start..until(text, start, is_delimiter),
    })
}

/// Whether the last part of a name, such as `access_token`, `X-Api-Key` or `clientSecret`, is one of these.
fn ends_in(name: &str, ends: &[&str]) -> bool {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    ends.iter().any(|end| {
        let Some(front) = lower.strip_suffix(end) else { return false };
        let (before, last) = name.split_at(front.len());
        let is_hump = before.ends_with(|c: char| c.is_ascii_lowercase()) && last.starts_with(|c: char| c.is_ascii_uppercase());
        front.is_empty() || front.ends_with(['_', '.']) || is_hump
    })
}

/// The password of `scheme://user:password@host`, which may hold anything when nobody has escaped it.
fn userinfo(text: &str, behind: usize) -> Option<Range<usize>> {
    let rest = text[behind..].strip_prefix("://")?;
    let start = text.len() - rest.len();
    let url = &text[start..until(text, start, |c| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>'))];
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    let colon = authority.find(':').filter(|_| !authority.starts_with('['))?;
    if let Some(at) = authority.rfind('@') {
        return (colon < at).then(|| start + colon + 1..start + at);
    }
    let is_port = authority[colon + 1..].bytes().all(|b| b.is_ascii_digit());
    let at = url.find('@').filter(|_| !is_port)?;
    Some(start + colon + 1..start + at)
}

const fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '\\' | ',' | ';' | ')' | '}' | '<' | '>')
}

/// The first place from `start` with such a character, or the end.
fn until(text: &str, start: usize, is_end: impl Fn(char) -> bool) -> usize {
    text[start..].find(is_end).map_or(text.len(), |length| start + length)
}

/// What is in quotes, which may hold the quote behind a backslash.
fn quoted(text: &str, start: usize, quote: char) -> Range<usize> {
    let mut is_escaped = false;
    let end = text[start..].find(|c| {
        let is_end = c == quote && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    start..end.map_or(text.len(), |length| start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let cases = [
            ("key sgk_0123456789abcdef failed", "key [redacted] failed"),
            ("GET /play/x.m3u8?token=abc.def-1&a=2", "GET /play/x.m3u8?token=[redacted]&a=2"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln!", "jwt [redacted]!"),
            ("é token=é secret=x", "é token=[redacted] secret=[redacted]"),
            // Schemes.
            ("authorization: Bearer abc123", "authorization: Bearer [redacted]"),
            ("bearer ab+c/d==, then", "bearer [redacted], then"),
            ("sent Basic dXNlcjpwYXNz", "sent Basic [redacted]"),
            (r#"{"authorization": "Basic dXNl=="}"#, r#"{"authorization": "[redacted]"}"#),
            ("Authorization: opaque", "Authorization: [redacted]"),
            // Ends of names.
            ("?access_token=a&refresh_token=b&x=1", "?access_token=[redacted]&refresh_token=[redacted]&x=1"),
            ("client_secret=c&grant_type=x", "client_secret=[redacted]&grant_type=x"),
            ("x?X-Amz-Signature=0aff&X-Amz-Date=1", "x?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
            ("clientSecret=a x-api-key: b", "clientSecret=[redacted] x-api-key: [redacted]"),
            // Whole values.
            ("token=ab+cd/ef==", "token=[redacted]"),
            ("token=ab%2Bc; a, secret=b, c", "token=[redacted]; a, secret=[redacted], c"),
            ("password: x", "password: [redacted]"),
            ("password = 'a b' c", "password = '[redacted]' c"),
            (r#"{"token":"x","a":1}"#, r#"{"token":"[redacted]","a":1}"#),
            (r#"{"token":"a\"b","a":1}"#, r#"{"token":"[redacted]","a":1}"#),
            (r#""{\"token\":\"x\",\"a\":1}""#, r#""{\"token\":\"[redacted]\",\"a\":1}""#),
            (r#"A { token: Some("x"), b: 1 }"#, r#"A { token: Some("[redacted]"), b: 1 }"#),
            (r#"A { secret: b"x\x00", password: [1, 2] }"#, r#"A { secret: b"[redacted]", password: [[redacted]] }"#),
            ("cookie: a=b; c=d\nhost: e", "cookie: [redacted]\nhost: e"),
            // URLs.
            ("postgres://user:hunter2@db:5432/x", "postgres://user:[redacted]@db:5432/x"),
            ("postgres://user:p%40ss@db", "postgres://user:[redacted]@db"),
            ("postgres://user:p@s:s@db/x@y", "postgres://user:[redacted]@db/x@y"),
            ("postgres://user:p/s?s@db", "postgres://user:[redacted]@db"),
            ("redis://:é@db", "redis://:[redacted]@db"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected);
        }
        let key = format!("signed with 0x{}", "a1".repeat(32));
        assert_eq!(clean(&key), "signed with [redacted]");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "upload upl_1 done",
            "tokens=3",
            "0xabc",
            "monkey=banana",
            "a:b@c",
            "sgk_",
            "é=ü",
            "no such key: x",
            "auth::token::parse failed",
            "the token, and a password",
            "token=",
            r"token:\",
            r"token:\é",
            "MONKEY=banana",
            "http://host:80/a@b",
            "http://[::1]:80/a@b",
            "http://user@host/a:b@c",
        ] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_known() {
        assert!(is_secret_name("access_token") && is_secret_name("Authorization") && is_secret_name("db_password"));
        assert!(!is_secret_name("upload_id") && !is_secret_name("key_id"));
    }
}
