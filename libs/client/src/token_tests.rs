use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use streamgate_core::ids::AccountId;

use super::*;

const NOW: UnixMillis = 1_800_000_000_000;
const NOW_S: i64 = NOW / 1000;

struct Signer {
    pair: Ed25519KeyPair,
    keys: Jwks,
}

impl Signer {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let mut keys = Jwks::default();
        keys.insert("k1", pair.public_key().as_ref().try_into().unwrap());
        Self { pair, keys }
    }

    fn raw(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn access(&self, change: impl FnOnce(&mut Value)) -> Result<AccessClaims, TokenError> {
        let mut claims = json!(access_claims());
        change(&mut claims);
        let token = self.raw(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}), &claims);
        verify_access(&token, &self.keys, NOW)
    }
}

fn access_claims() -> AccessClaims {
    AccessClaims {
        iss: ISSUER.into(),
        aud: ACCESS_AUDIENCE.into(),
        sub: AccountId::new().to_string(),
        role: "creator".into(),
        wallet: Some("eip155:1:0xabc".into()),
        iat: NOW_S,
        exp: NOW_S + 600,
        jti: "t".into(),
    }
}

#[test]
fn a_token_reads_back_as_it_was_signed() {
    let signer = Signer::new();
    let claims = access_claims();
    let token = encode(TokenClass::Access, "k1", &claims, |bytes| signer.pair.sign(bytes).as_ref().to_vec()).unwrap();
    assert_eq!(verify_access(&token, &signer.keys, NOW), Ok(claims.clone()));
    assert_eq!(claims.account().unwrap().wallet.as_deref(), Some("eip155:1:0xabc"));
}

#[test]
fn a_token_of_one_class_is_never_taken_for_another() {
    let signer = Signer::new();
    let token = encode(TokenClass::Access, "k1", &access_claims(), |bytes| signer.pair.sign(bytes).as_ref().to_vec()).unwrap();
    assert_eq!(verify_playback(&token, &signer.keys, NOW), Err(TokenError::Malformed));
}

#[test]
fn headers_other_than_ours_are_refused() {
    let signer = Signer::new();
    let claims = json!(access_claims());
    let bad = [
        json!({"alg": "none", "typ": "at+jwt", "kid": "k1"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "k1"}),
        json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"}),
        json!({"alg": "EdDSA", "kid": "k1"}),
        json!({"alg": "EdDSA", "typ": "at+jwt"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1", "crit": []}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1", "jku": "https://evil.example"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": ["k1"]}),
    ];
    for header in bad {
        let token = signer.raw(&header, &claims);
        assert_eq!(verify_access(&token, &signer.keys, NOW), Err(TokenError::Malformed), "{header}");
    }
    let token = signer.raw(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k2"}), &claims);
    assert_eq!(verify_access(&token, &signer.keys, NOW), Err(TokenError::UnknownKey));
}

#[test]
fn claims_of_a_wrong_type_or_value_are_refused() {
    let signer = Signer::new();
    assert!(signer.access(|_| ()).is_ok());
    assert!(signer.access(|c| c["exp"] = json!("1900000000")).is_err());
    assert!(signer.access(|c| c["exp"] = json!(NOW_S as f64 + 600.5)).is_err());
    assert!(signer.access(|c| c["iss"] = json!(["streamgate"])).is_err());
    assert!(signer.access(|c| c["iss"] = json!("another")).is_err());
    assert!(signer.access(|c| c["aud"] = json!(PLAYBACK_AUDIENCE)).is_err());
    assert!(signer.access(|c| c["role"] = json!("root")).is_err());
    assert!(signer.access(|c| c["sub"] = json!("somebody")).is_err());
    assert!(signer.access(|c| c["admin"] = json!(true)).is_err());
    assert!(signer.access(|c| drop(c.as_object_mut().unwrap().remove("exp"))).is_err());
}

#[test]
fn time_is_checked_without_leeway_at_the_end_and_with_little_at_the_start() {
    let signer = Signer::new();
    assert_eq!(signer.access(|c| c["exp"] = json!(NOW_S)), Err(TokenError::Expired));
    assert!(signer.access(|c| c["exp"] = json!(NOW_S + 1)).is_ok());
    assert!(signer.access(|c| c["iat"] = json!(NOW_S + 5)).is_ok());
    assert_eq!(signer.access(|c| c["iat"] = json!(NOW_S + 6)), Err(TokenError::Claims("iat")));
}

#[test]
fn a_token_that_is_changed_cut_or_too_long_is_refused() {
    let signer = Signer::new();
    let token = signer.raw(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}), &json!(access_claims()));
    let payload = token.split('.').nth(1).unwrap();
    let richer = URL_SAFE_NO_PAD.encode(json!({"role": "operator"}).to_string());
    assert_eq!(verify_access(&token.replace(payload, &richer), &signer.keys, NOW), Err(TokenError::Signature));
    for bad in
        ["", "a", "a.b", "a.b.c.d", &format!("{token}.x"), &format!("{token}="), &"a".repeat(9000), &token[..token.len() - 2]]
    {
        assert!(verify_access(bad, &signer.keys, NOW).is_err(), "{bad}");
    }
}
