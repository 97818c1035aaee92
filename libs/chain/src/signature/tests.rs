use proptest::prelude::*;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::*;

/// The order of the group.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_byte_array([seed.clamp(1, 254); 32]).unwrap()
}

fn address(key: &SecretKey) -> Address {
    let hash = keccak256(&PublicKey::from_secret_key(SECP256K1, key).serialize_uncompressed()[1..]);
    Address::new(hash[12..].try_into().unwrap())
}

fn sign(key: &SecretKey, text: &[u8]) -> [u8; 65] {
    let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(personal_hash(text)), key);
    let (recovery, compact) = signed.serialize_compact();
    let mut bytes = [0; 65];
    bytes[..64].copy_from_slice(&compact);
    bytes[64] = 27 + i32::from(recovery) as u8;
    bytes
}

/// s becomes n - s and the recovery bit flips: the same signature in its other form.
fn high_twin(mut bytes: [u8; 65]) -> [u8; 65] {
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let value = i16::from(order[place]) - i16::from(bytes[32 + place]) - borrow;
        borrow = i16::from(value < 0);
        bytes[32 + place] = value.rem_euclid(256) as u8;
    }
    bytes[64] = 27 + (28 - bytes[64]);
    bytes
}

#[test]
fn the_hash_is_the_published_one() {
    // ethers' documentation of hashMessage("Hello World").
    assert_eq!(hex::encode(personal_hash(b"Hello World")), "a1de988600a42c4b4ab089b619297c17d53cffae5d5120d82d8a92d0bb3b78f2");
}

#[test]
fn a_short_long_or_foreign_shape_is_refused() {
    let good = format!("0x{}", hex::encode(sign(&key(1), b"x")));
    assert!(Signature::from_hex(&good).is_ok());
    for bad in [&good[..130], &good[2..], &format!("{good}00"), "0x", "", &good.replace('0', "g")] {
        assert_eq!(Signature::from_hex(bad), Err(BadSignature::Shape), "{bad}");
    }
}

proptest! {
    #[test]
    fn the_signer_is_found_and_nobody_else(seed in 1_u8..=255, text: Vec<u8>, other: Vec<u8>) {
        let key = key(seed);
        let signature = Signature::from_bytes(&sign(&key, &text)).unwrap();
        prop_assert_eq!(signature.signer_of(&text), Ok(address(&key)));
        if other != text {
            prop_assert_ne!(signature.signer_of(&other), Ok(address(&key)));
        }
    }

    #[test]
    fn the_twin_with_a_high_s_is_refused(seed in 1_u8..=255, text: Vec<u8>) {
        let twin = high_twin(sign(&key(seed), &text));
        prop_assert_eq!(Signature::from_bytes(&twin), Err(BadSignature::HighS));
    }

    #[test]
    fn only_four_recovery_bytes_are_taken(byte: u8) {
        let mut bytes = sign(&key(7), b"x");
        bytes[64] = byte;
        prop_assert_eq!(Signature::from_bytes(&bytes).is_ok(), matches!(byte, 0 | 1 | 27 | 28));
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 65), text: Vec<u8>) {
        let bytes: [u8; 65] = bytes.try_into().unwrap();
        if let Ok(signature) = Signature::from_bytes(&bytes) {
            let _ = signature.signer_of(&text);
        }
    }
}

/// Published ECDSA vectors: our form refuses whatever is invalid there, and the high-s half of what is valid.
#[test]
fn wycheproof_signatures_recover_to_their_key_or_not_at_all() {
    use sha2::{Digest as _, Sha256};
    let Some(text) = crate::vectors::read("wycheproof/ecdsa_secp256k1_sha256_p1363_test.json") else { return };
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
    let (mut right, mut high) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let public = bytes(&group["publicKey"]["uncompressed"]);
        let signer = Address::new(keccak256(&public[1..])[12..].try_into().unwrap());
        for case in group["tests"].as_array().unwrap() {
            let Ok(compact) = <[u8; 64]>::try_from(bytes(&case["sig"])) else { continue };
            let hash: [u8; 32] = Sha256::digest(bytes(&case["msg"])).into();
            let read = [27, 28].map(|v| {
                let mut signature = [v; 65];
                signature[..64].copy_from_slice(&compact);
                Signature::from_bytes(&signature)
            });
            let is_high = read.contains(&Err(BadSignature::HighS));
            let found = read.into_iter().flatten().any(|signature| signature.signer_of_hash(&hash) == Ok(signer));
            let is_valid = case["result"] == "valid";
            // An r above the order needs the recovery bytes 29 and 30, which no wallet makes and we refuse.
            let is_odd = case["comment"].as_str().unwrap().contains("r = x-coordinate")
                || case["flags"].to_string().contains("ArithmeticError");
            assert!(!found || is_valid, "{case}");
            assert!(found || !is_valid || is_high || is_odd, "{case}");
            right += usize::from(found);
            high += usize::from(is_valid && is_high);
        }
    }
    assert!(right > 50 && high > 0, "{right} recovered, {high} high");
}
