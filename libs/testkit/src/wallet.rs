//! Wallets that sign like a browser's.

use anyhow::{Context as _, Result};
use ethers_core::{
    types::Address,
    utils::{hash_message, keccak256, to_checksum},
};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

/// Keys of the well-known development mnemonic "test test … junk". They guard nothing.
const DEV_KEYS: [&str; 4] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

/// A wallet of a test.
#[derive(Debug, Clone)]
pub struct Wallet {
    key: SecretKey,
    address: Address,
}

impl Wallet {
    /// The development account with this number (0 to 3), which a local node has unlocked.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn dev(number: usize) -> Result<Self> {
        let key = DEV_KEYS.get(number).with_context(|| format!("there is no development account {number}"))?;
        Self::from_key(hex::decode(key)?.as_slice())
    }

    /// The wallet of a 32-byte secret key.
    ///
    /// # Errors
    /// When the bytes are not a key.
    pub fn from_key(key: &[u8]) -> Result<Self> {
        let key = SecretKey::from_byte_array(key.try_into().context("a key is 32 bytes")?)?;
        let public = PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        let hash = keccak256(&public[1..]);
        Ok(Self { key, address: Address::from_slice(&hash[12..]) })
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Its address as people see it, with the mixed case of EIP-55.
    #[must_use]
    pub fn checksummed(&self) -> String {
        to_checksum(&self.address, None)
    }

    /// What `personal_sign` gives: 0x-prefixed, 65 bytes.
    #[must_use]
    pub fn sign(&self, message: &str) -> String {
        let digest = Message::from_digest(hash_message(message).0);
        let (recovery, compact) = SECP256K1.sign_ecdsa_recoverable(digest, &self.key).serialize_compact();
        let v = if i32::from(recovery) == 0 { 27 } else { 28 };
        format!("0x{}{v:02x}", hex::encode(compact))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use std::str::FromStr as _;

    use ethers_core::types::Signature;

    use super::*;

    #[test]
    fn a_development_wallet_has_the_address_that_every_local_node_prints() {
        assert_eq!(Wallet::dev(0).unwrap().checksummed(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        assert_eq!(Wallet::dev(1).unwrap().checksummed(), "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
        assert_eq!(Wallet::dev(2).unwrap().checksummed(), "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC");
        assert_eq!(Wallet::dev(3).unwrap().checksummed(), "0x90F79bf6EB2c4f870365E785982E1f101E93b906");
    }

    #[test]
    fn a_signature_recovers_to_the_wallet() {
        let wallet = Wallet::dev(1).unwrap();
        let signature = Signature::from_str(&wallet.sign("let me in")).unwrap();
        assert_eq!(signature.recover("let me in").unwrap(), wallet.address());
    }
}
