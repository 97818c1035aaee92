//! Signatures after Standard Webhooks 1.0.

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::Error;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// What every secret begins with when it is shown.
const PREFIX: &str = "whsec_";

/// A secret that an endpoint's receiver shares.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = vec![0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// One that is stored.
    #[must_use]
    pub const fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As it is stored: it signs, so a hash of it would not do.
    #[must_use]
    pub fn to_store(&self) -> &[u8] {
        &self.0
    }

    /// As it is shown, once.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    fn sign(&self, message_id: &str, seconds: i64, body: &[u8]) -> String {
        let mut signer = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        signer.update(format!("{message_id}.{seconds}.").as_bytes());
        signer.update(body);
        format!("v1,{}", STANDARD.encode(signer.sign()))
    }
}

/// The `webhook-signature` header: one signature for each secret.
#[must_use]
pub fn signatures(secrets: &[Secret], message_id: &str, seconds: i64, body: &[u8]) -> String {
    let all: Vec<String> = secrets.iter().map(|secret| secret.sign(message_id, seconds, body)).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = Secret(STANDARD.decode("plJ3nmyCDGBKInavdOK15jsl").unwrap());
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        assert_eq!(
            signatures(&[secret], "msg_loFOjxBNrRLzqYUf", 1_731_705_121, body),
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
        );
    }

    #[test]
    fn two_secrets_sign_side_by_side_and_none_is_shown_by_chance() {
        let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(old, new);
        let header = signatures(&[new.clone(), old.clone()], "m", 1, b"x");
        assert_eq!(header, format!("{} {}", new.sign("m", 1, b"x"), old.sign("m", 1, b"x")));
        assert_eq!(format!("{new:?}"), "Secret(..)");
        assert!(new.reveal().starts_with("whsec_") && new.reveal().len() == 50);
    }
}
