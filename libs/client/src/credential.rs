//! How services of the mesh prove themselves to each other.
//!
//! A call carries `name.expiry.mac`, where the MAC covers the name, the expiry and for whom the
//! service acts. It lives for a minute, so a copy from a log is soon worth nothing.

use std::fmt;

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use streamgate_core::{Account, ErrorKind, Failure, Identity, ServiceName, time::UnixMillis};

/// Says which service calls.
pub const SERVICE_HEADER: HeaderName = HeaderName::from_static("x-streamgate-service");
/// Says for whom it calls. Believed only together with a valid [`SERVICE_HEADER`].
pub const ON_BEHALF_HEADER: HeaderName = HeaderName::from_static("x-streamgate-on-behalf");

/// How long a credential is good for.
const LIFETIME_SECONDS: i64 = 60;
/// How far the clocks of two services may differ.
const CLOCK_LEEWAY_SECONDS: i64 = 5;
/// The key that all services of one mesh share.
#[derive(Clone)]
pub struct MeshSecret(hmac::Key);

impl MeshSecret {
    /// Shortest secret that is taken, in bytes.
    pub const SHORTEST: usize = 16;

    /// Absent when `secret` is too short.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= Self::SHORTEST).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// 32 random bytes in hex, as they are kept in a file.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<String, Failure> {
        let mut bytes = [0_u8; 32];
        let failed = |_| Failure::new(ErrorKind::Internal, "no_randomness", "the system gave no random bytes");
        SystemRandom::new().fill(&mut bytes).map_err(failed)?;
        Ok(hex::encode(bytes))
    }
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshSecret(..)")
    }
}

/// For whom a service makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acting {
    /// For itself.
    Itself,
    /// For somebody without an account: the service must not lend its own rights.
    Anonymous,
    /// For an account.
    Account(Account),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAccount {
    id: String,
    role: String,
    wallet: Option<String>,
}

/// Puts the credential of `name`, acting for `acting`, into the headers of a call.
pub(crate) fn attach(headers: &mut HeaderMap, secret: &MeshSecret, name: ServiceName, acting: &Acting, now: UnixMillis) {
    let on_behalf = on_behalf_text(acting);
    let expiry = now / 1000 + LIFETIME_SECONDS;
    let mac = hmac::sign(&secret.0, covered(name.as_str(), expiry, &on_behalf).as_bytes());
    let credential = format!("{name}.{expiry}.{}", hex::encode(mac.as_ref()));
    // Both texts are plain ASCII, so neither conversion fails.
    if let Ok(value) = HeaderValue::from_str(&credential) {
        headers.insert(SERVICE_HEADER, value);
    }
    headers.remove(ON_BEHALF_HEADER);
    if let Some(value) = HeaderValue::from_str(&on_behalf).ok().filter(|value| !value.is_empty()) {
        headers.insert(ON_BEHALF_HEADER, value);
    }
}

/// Whom the credential in the headers proves; absent when there is none.
pub(crate) fn verify(headers: &HeaderMap, secret: &MeshSecret, now: UnixMillis) -> Option<Result<Identity, Failure>> {
    let credential = headers.get(SERVICE_HEADER)?;
    Some(check(credential, headers, secret, now).ok_or_else(|| {
        Failure::new(
            ErrorKind::Unauthenticated,
            "token_invalid",
            "the service credential is not valid; do all services share one mesh secret?",
        )
    }))
}

fn check(credential: &HeaderValue, headers: &HeaderMap, secret: &MeshSecret, now: UnixMillis) -> Option<Identity> {
    let mut parts = credential.to_str().ok()?.split('.');
    let (name, expiry, mac) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let expiry: i64 = expiry.parse().ok()?;
    let on_behalf = match headers.get(ON_BEHALF_HEADER) {
        Some(value) => value.to_str().ok()?,
        None => "",
    };
    // Compares in constant time.
    hmac::verify(&secret.0, covered(name, expiry, on_behalf).as_bytes(), &hex::decode(mac).ok()?).ok()?;
    let now = now / 1000;
    let in_time = expiry > now - CLOCK_LEEWAY_SECONDS && expiry <= now + LIFETIME_SECONDS + CLOCK_LEEWAY_SECONDS;
    if !in_time {
        return None;
    }
    identity(name.parse().ok()?, on_behalf)
}

fn identity(name: ServiceName, on_behalf: &str) -> Option<Identity> {
    if on_behalf.is_empty() {
        return Some(Identity::Service { name, on_behalf_of: None });
    }
    let json = URL_SAFE_NO_PAD.decode(on_behalf).ok()?;
    let Some(wire) = serde_json::from_slice::<Option<WireAccount>>(&json).ok()? else {
        return Some(Identity::Anonymous);
    };
    let account = Account { id: wire.id.parse().ok()?, role: wire.role.parse().ok()?, wallet: wire.wallet };
    Some(Identity::Service { name, on_behalf_of: Some(account) })
}

fn covered(name: &str, expiry: i64, on_behalf: &str) -> String {
    format!("{name}|{expiry}|{on_behalf}")
}

fn on_behalf_text(acting: &Acting) -> String {
    let wire = match acting {
        Acting::Itself => return String::new(),
        Acting::Anonymous => None,
        Acting::Account(account) => {
            Some(WireAccount { id: account.id.to_string(), role: account.role.to_string(), wallet: account.wallet.clone() })
        }
    };
    // Three strings always become JSON; were it otherwise, nobody would be the safe answer.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_else(|_| b"null".to_vec()))
}

#[cfg(test)]
mod tests {
    use streamgate_core::{Role, ids::AccountId};

    use super::*;

    const NOW: UnixMillis = 1_800_000_000_000;

    fn secret() -> MeshSecret {
        MeshSecret::new(b"0123456789abcdef0123456789abcdef").unwrap()
    }

    fn account() -> Account {
        Account { id: AccountId::new(), role: Role::Creator, wallet: Some("eip155:1:0xabc".into()) }
    }

    fn headers(acting: &Acting) -> HeaderMap {
        let mut headers = HeaderMap::new();
        attach(&mut headers, &secret(), ServiceName::Upload, acting, NOW);
        headers
    }

    #[test]
    fn a_service_is_known_for_itself_and_for_the_account_it_acts_for() {
        let alone = verify(&headers(&Acting::Itself), &secret(), NOW).unwrap().unwrap();
        assert_eq!(alone, Identity::Service { name: ServiceName::Upload, on_behalf_of: None });
        let account = account();
        let acting = verify(&headers(&Acting::Account(account.clone())), &secret(), NOW).unwrap().unwrap();
        assert_eq!(acting, Identity::Service { name: ServiceName::Upload, on_behalf_of: Some(account) });
    }

    #[test]
    fn a_service_acting_for_nobody_lends_no_rights() {
        assert_eq!(verify(&headers(&Acting::Anonymous), &secret(), NOW), Some(Ok(Identity::Anonymous)));
    }

    #[test]
    fn a_forged_changed_or_old_credential_is_refused() {
        let refused = |headers: &HeaderMap, now| verify(headers, &secret(), now).unwrap().is_err();
        let good = headers(&Acting::Account(account()));
        assert!(refused(&good, NOW + 66_000), "old");
        assert!(refused(&good, NOW - 10_000), "from the future");

        let mut other_account = good.clone();
        other_account.insert(ON_BEHALF_HEADER, headers(&Acting::Account(account()))[ON_BEHALF_HEADER].clone());
        assert!(refused(&other_account, NOW), "another account");

        let mut no_account = good.clone();
        no_account.remove(ON_BEHALF_HEADER);
        assert!(refused(&no_account, NOW), "account taken away");

        let mut other_name = good.clone();
        let renamed = good[SERVICE_HEADER].to_str().unwrap().replace("upload", "auth");
        other_name.insert(SERVICE_HEADER, HeaderValue::from_str(&renamed).unwrap());
        assert!(refused(&other_name, NOW), "another name");

        let foreign = MeshSecret::new(b"another secret, long enough").unwrap();
        assert!(verify(&good, &foreign, NOW).unwrap().is_err(), "another mesh");
        assert_eq!(verify(&HeaderMap::new(), &secret(), NOW), None);
    }

    #[test]
    fn a_short_secret_is_not_taken() {
        assert!(MeshSecret::new(b"short").is_none());
        assert!(MeshSecret::generate().unwrap().len() == 64);
    }
}
