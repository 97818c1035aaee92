//! Who signed a text with `personal_sign` (EIP-191).

use secp256k1::{
    Message,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use streamgate_core::evm::{Address, keccak256};

/// Why a signature is refused before anybody asks whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// Not hex, or not 65 bytes. The 64-byte form of EIP-2098 is refused: one signature, one text.
    #[error("must be 0x followed by 130 hex digits (65 bytes)")]
    Shape,
    /// The last byte says which of two keys signed, and nothing else.
    #[error("has a recovery byte that is not 27, 28, 0 or 1")]
    RecoveryByte,
    /// The twin with a high s is valid mathematics and a second text for the same signature.
    #[error("has an s in the upper half of the order (EIP-2)")]
    HighS,
    /// No key can have made it.
    #[error("is not a signature of this message by any key")]
    Unrecoverable,
}

/// A well-formed signature with low s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(RecoverableSignature);

impl Signature {
    /// Reads `0x` and 130 hex digits.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_hex(text: &str) -> Result<Self, BadSignature> {
        let digits = text.strip_prefix("0x").ok_or(BadSignature::Shape)?;
        let mut bytes = [0; 65];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| BadSignature::Shape)?;
        Self::from_bytes(&bytes)
    }

    /// Reads r, s and the recovery byte.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8; 65]) -> Result<Self, BadSignature> {
        let recovery = match bytes[64] {
            0 | 27 => RecoveryId::Zero,
            1 | 28 => RecoveryId::One,
            _ => return Err(BadSignature::RecoveryByte),
        };
        let signature = RecoverableSignature::from_compact(&bytes[..64], recovery).map_err(|_| BadSignature::Unrecoverable)?;
        let standard = signature.to_standard();
        let mut normalised = standard;
        normalised.normalize_s();
        if normalised != standard {
            return Err(BadSignature::HighS);
        }
        Ok(Self(signature))
    }

    /// The address whose key signed `text` with `personal_sign`.
    ///
    /// # Errors
    /// [`BadSignature::Unrecoverable`] when no key can have.
    pub fn signer_of(&self, text: &[u8]) -> Result<Address, BadSignature> {
        self.signer_of_hash(&personal_hash(text))
    }

    /// The address whose key signed a 32-byte hash.
    ///
    /// # Errors
    /// [`BadSignature::Unrecoverable`] when no key can have.
    pub fn signer_of_hash(&self, hash: &[u8; 32]) -> Result<Address, BadSignature> {
        let key = self.0.recover(Message::from_digest(*hash)).map_err(|_| BadSignature::Unrecoverable)?;
        let hash = keccak256(&key.serialize_uncompressed()[1..]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Ok(Address::new(address))
    }
}

/// What `personal_sign` signs: the text behind a prefix that no transaction begins with.
#[must_use]
pub fn personal_hash(text: &[u8]) -> [u8; 32] {
    let mut bytes = format!("\x19Ethereum Signed Message:\n{}", text.len()).into_bytes();
    bytes.extend_from_slice(text);
    keccak256(&bytes)
}

#[cfg(test)]
mod tests;
