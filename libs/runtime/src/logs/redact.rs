//! Takes secrets out of what leaves a process in its log.
//!
//! Nothing logs a secret on purpose. This is for the message of a library that quotes a header or a
//! URL.

use std::borrow::Cow;

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
/// Names in `name=value` after which the value is a secret, such as in a URL.
const SECRET_ASSIGNMENTS: [&str; 8] = ["token", "secret", "password", "signature", "key", "credential", "api_key", "sig"];

/// Whether a field of this name may hold a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The text without API keys, tokens, passwords in URLs, and values of names such as `token=`.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let mut cleaned: Option<String> = None;
    let mut copied = 0;
    let mut previous = "";
    for (start, word) in words(text) {
        let before = &text[..start];
        if is_secret_word(word)
            || is_assigned(before)
            || previous.eq_ignore_ascii_case("bearer")
            || is_userinfo(text, start, word)
        {
            let cleaned = cleaned.get_or_insert_default();
            cleaned.push_str(&text[copied..start]);
            cleaned.push_str(GONE);
            copied = start + word.len();
        }
        previous = word;
    }
    match cleaned {
        Some(cleaned) => Cow::Owned(cleaned + &text[copied..]),
        None => Cow::Borrowed(text),
    }
}

const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Words with the place where each begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(is_word_char)?;
        let length = text[start..].find(|c| !is_word_char(c)).unwrap_or(text.len() - start);
        rest = start + length;
        Some((start, &text[start..rest]))
    })
}

fn is_secret_word(word: &str) -> bool {
    let is_api_key = word.starts_with("sgk_") && word.len() > 12;
    let is_jwt = word.starts_with("eyJ") && word.bytes().filter(|b| *b == b'.').count() == 2;
    // A private key, or a signature: 64 or more hex digits. Hashes of that length are lost with them.
    let is_long_hex = word.strip_prefix("0x").is_some_and(|hex| hex.len() >= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    is_api_key || is_jwt || is_long_hex
}

/// Whether `before` ends in `name=` with the name of a secret.
fn is_assigned(before: &str) -> bool {
    let Some(named) = before.strip_suffix('=') else { return false };
    let name_start = named.rfind(|c| !is_word_char(c)).map_or(0, |place| place + 1);
    SECRET_ASSIGNMENTS.iter().any(|name| named[name_start..].eq_ignore_ascii_case(name))
}

/// Whether the word is the password of `scheme://user:password@host`.
fn is_userinfo(text: &str, start: usize, word: &str) -> bool {
    let is_before_host = text[start + word.len()..].starts_with('@');
    is_before_host && text[..start].ends_with(':') && text[..start].contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let cases = [
            ("key sgk_0123456789abcdef failed", "key [redacted] failed"),
            ("GET /play/x.m3u8?token=abc.def-1&a=2", "GET /play/x.m3u8?token=[redacted]&a=2"),
            ("authorization: Bearer abc123", "authorization: Bearer [redacted]"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln!", "jwt [redacted]!"),
            ("postgres://user:hunter2@db:5432/x", "postgres://user:[redacted]@db:5432/x"),
            ("é token=é secret=x", "é token=é secret=[redacted]"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected);
        }
        let key = format!("signed with 0x{}", "a1".repeat(32));
        assert_eq!(clean(&key), "signed with [redacted]");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", "upload upl_1 done", "tokens=3", "0xabc", "monkey=banana", "a:b@c", "sgk_", "é=ü"] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_known() {
        assert!(is_secret_name("access_token") && is_secret_name("Authorization") && is_secret_name("db_password"));
        assert!(!is_secret_name("upload_id") && !is_secret_name("key_id"));
    }
}
