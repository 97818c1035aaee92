use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::signature::Signature;

fn vectors(name: &str) -> Option<Map<String, Value>> {
    crate::vectors::read(&format!("siwe/{name}")).map(|text| serde_json::from_str(&text).unwrap())
}

fn draft(fields: &Value) -> Draft {
    let text = |key: &str| fields.get(key).and_then(|value| value.as_str().map(str::to_owned));
    let chain_id =
        fields.get("chainId").map(|value| value.as_u64().map_or_else(|| value.to_string(), |number| number.to_string()));
    let resources = fields.get("resources").and_then(Value::as_array);
    Draft {
        scheme: text("scheme"),
        domain: text("domain").unwrap_or_default(),
        address: text("address").unwrap_or_default(),
        statement: text("statement"),
        uri: text("uri").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        chain_id: chain_id.unwrap_or_default(),
        nonce: text("nonce").unwrap_or_default(),
        issued_at: text("issuedAt").unwrap_or_default(),
        expiration_time: text("expirationTime"),
        not_before: text("notBefore"),
        request_id: text("requestId"),
        resources: resources.map(|list| list.iter().map(|item| item.as_str().unwrap().to_owned()).collect()),
    }
}

/// What a server does with a signed message.
fn verify(case: &Value) -> Result<(), String> {
    let message = Message::new(draft(case)).map_err(|e| e.to_string())?;
    let text = |key: &str, default: &str| case[key].as_str().unwrap_or(default).to_owned();
    let now = grammar::moment(&text("time", "2026-11-20T00:00:00Z")).map_err(|e| e.to_string())?;
    let (domain, nonce) = (text("domainBinding", message.domain()), text("matchNonce", message.nonce()));
    message.check(&Expected { domain: &domain, nonce: &nonce, now }).map_err(|e| e.to_string())?;
    let signature = Signature::from_hex(&text("signature", "")).map_err(|e| e.to_string())?;
    let signer = signature.signer_of(message.to_string().as_bytes()).map_err(|e| e.to_string())?;
    if signer == message.address() { Ok(()) } else { Err("another key signed".to_owned()) }
}

#[test]
fn every_public_message_that_is_right_is_read_and_printed_as_it_was() {
    let Some(cases) = vectors("parsing_positive.json") else { return };
    for (name, case) in cases {
        let text = case["message"].as_str().unwrap();
        let message = Message::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(message.to_string(), text, "{name}");
        assert_eq!(Message::new(draft(&case["fields"])).as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn every_public_message_that_is_wrong_is_refused() {
    if let Some(cases) = vectors("parsing_negative.json") {
        for (name, text) in cases {
            assert!(Message::parse(text.as_str().unwrap()).is_err(), "{name}");
        }
    }
    let Some(cases) = vectors("parsing_negative_objects.json") else { return };
    for (name, fields) in cases {
        assert!(Message::new(draft(&fields)).is_err(), "{name}");
    }
}

#[test]
fn every_public_signature_is_judged_right() {
    if let Some(cases) = vectors("verification_positive.json") {
        for (name, case) in cases {
            assert_eq!(verify(&case), Ok(()), "{name}");
        }
    }
    let Some(cases) = vectors("verification_negative.json") else { return };
    for (name, case) in cases {
        assert!(verify(&case).is_err(), "{name}");
    }
}

fn example() -> Draft {
    Draft {
        domain: "localhost:9090".into(),
        address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".into(),
        statement: Some("Sign in to StreamGate.".into()),
        uri: "http://localhost:9090".into(),
        version: "1".into(),
        chain_id: "31337".into(),
        nonce: "0123456789abcdef".into(),
        issued_at: "2026-11-20T10:00:00Z".into(),
        expiration_time: Some("2026-11-20T10:05:00Z".into()),
        ..Draft::default()
    }
}

#[test]
fn a_message_that_only_looks_right_is_refused() {
    let good = Message::new(example()).unwrap().to_string();
    assert!(Message::parse(&good).is_ok());
    let bad = [
        good.replace('\n', "\r\n"),
        format!("{good}\n"),
        format!("\n{good}"),
        good.replace("Chain ID: 31337", "Chain ID: 031337"),
        good.replace("Chain ID: 31337", "Chain ID: 99999999999999999999999"),
        good.replace("Nonce: 0123456789abcdef", "Nonce: 0123456789abcdeé"),
        good.replace("Nonce: 0123456789abcdef", "Nonce: 01234567-9abcdef"),
        good.replace("Sign in to StreamGate.", "Sign in \u{202e}to StreamGate."),
        good.replace("Sign in to StreamGate.", "\""),
        good.replace("2026-11-20T10:00:00Z", "2026-02-30T10:00:00Z"),
        good.replace("2026-11-20T10:00:00Z", "2026-11-20T10:00:60Z"),
        good.replace("2026-11-20T10:00:00Z", "2026-11-20 10:00:00Z"),
        good.replace("2026-11-20T10:00:00Z", "2026-11-20T10:00:00"),
        good.replace("2026-11-20T10:00:00Z", "2026-11-20T10:00:00+25:00"),
        good.replace("Version: 1", "Version: 1 "),
        format!("{good}\nRequest ID: with space"),
        format!("{good}\nResources:\n- not a uri"),
        format!("{good}\nResources: x"),
        "x".repeat(MAX_BYTES + 1),
    ];
    for text in bad {
        assert!(Message::parse(&text).is_err(), "{text:?}");
    }
    assert!(Message::parse(&format!("{good}\nResources:")).is_ok(), "a list of resources may be empty");
}

#[test]
fn a_message_has_expired_at_the_instant_of_its_expiry() {
    let message = Message::new(example()).unwrap();
    let expiry = grammar::moment("2026-11-20T10:05:00Z").unwrap();
    let at = |now| message.check(&Expected { domain: "localhost:9090", nonce: "0123456789abcdef", now });
    assert_eq!(at(expiry - 1), Ok(()));
    assert_eq!(at(expiry), Err(Mismatch::Expired));
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(
        statement in prop::option::of("[a-zA-Z0-9 :/?#@!$&'()*+,;=._~-]{1,60}"),
        nonce in "[a-zA-Z0-9]{8,40}",
        chain in 1_u64..,
        request_id in prop::option::of("[a-z0-9:@._-]{0,20}"),
        resources in prop::option::of(prop::collection::vec("https://[a-z]{1,10}\\.example/[a-z/]{0,10}", 0..4)),
    ) {
        let message = Message::new(Draft { statement, nonce, chain_id: chain.to_string(), request_id, resources, ..example() }).unwrap();
        prop_assert_eq!(Message::parse(&message.to_string()), Ok(message));
    }

    #[test]
    fn any_text_is_refused_or_reads_back_the_same(text in "\\PC{0,300}") {
        if let Ok(message) = Message::parse(&text) {
            prop_assert_eq!(message.to_string(), text);
        }
    }

    #[test]
    fn a_message_with_one_byte_changed_is_refused_or_different(place in 0_usize..250, byte in 0_u8..128) {
        let good = Message::new(example()).unwrap();
        let mut bytes = good.to_string().into_bytes();
        let place = place % bytes.len();
        if bytes[place] != byte {
            bytes[place] = byte;
            prop_assert_ne!(Message::parse(&String::from_utf8(bytes).unwrap()), Ok(good));
        }
    }
}
