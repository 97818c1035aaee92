//! EVM words: chain ids (CAIP-2), addresses (EIP-55), wallets (CAIP-10) and 256-bit numbers.

use std::{fmt, str::FromStr};

use tiny_keccak::{Hasher, Keccak};

use crate::chains;

/// What is wrong with a chain, an address, a wallet or a number. Reads after the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadWord(String);

impl BadWord {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// An EIP-155 chain number. Its text is CAIP-2, such as `eip155:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(u64);

impl ChainId {
    /// Ethereum.
    pub const ETHEREUM: Self = Self(1);

    /// The chain with this number.
    ///
    /// # Errors
    /// Zero, which no chain has, and chains that were shut down.
    pub fn new(number: u64) -> Result<Self, BadWord> {
        if number == 0 {
            return Err(BadWord::new("must be the positive number of a chain"));
        }
        match chains::known(number) {
            Some(chain) if chain.retired => {
                let successor = chain.successor.map_or_else(String::new, |next| format!("; use {}", Self(next)));
                Err(BadWord::new(format!("{} ({}) has been shut down{successor}", chain.name, Self(number))))
            }
            _ => Ok(Self(number)),
        }
    }

    /// The chain with this number, without a look at the table: also one that was shut down.
    #[must_use]
    pub const fn any(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its name for people: its own, or `chain 31337`.
    #[must_use]
    pub fn name(self) -> String {
        chains::known(self.0).map_or_else(|| format!("chain {}", self.0), |chain| chain.name.to_owned())
    }

    /// Symbol of its own coin; `ETH` where it is not known.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        chains::known(self.0).map_or("ETH", |chain| chain.symbol)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eip155:{}", self.0)
    }
}

impl FromStr for ChainId {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let refused = || BadWord::new("must be a CAIP-2 chain, such as eip155:1");
        let digits = text.strip_prefix("eip155:").ok_or_else(refused)?;
        if !is_plain_decimal(digits) {
            return Err(refused());
        }
        Self::new(digits.parse().map_err(|_| refused())?)
    }
}

/// Twenty bytes that name an account or a contract. Its text carries the EIP-55 checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 20]);

impl Address {
    /// Nobody: tokens are burnt to it.
    pub const ZERO: Self = Self([0; 20]);

    /// The address with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// `0x` and 40 lower-case digits: the form to use as a key.
    #[must_use]
    pub fn lower(&self) -> String {
        format!("0x{}", hex::encode(self.0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex::encode(self.0);
        let hash = keccak256(digits.as_bytes());
        f.write_str("0x")?;
        for (place, digit) in digits.chars().enumerate() {
            let nibble = (hash[place / 2] >> (4 * (1 - place % 2))) & 0x0f;
            let shown = if nibble >= 8 { digit.to_ascii_uppercase() } else { digit };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

impl FromStr for Address {
    type Err = BadWord;

    /// Takes one case throughout, or mixed case with a right EIP-55 checksum.
    fn from_str(text: &str) -> Result<Self, BadWord> {
        let refused = || BadWord::new("must be 0x followed by 40 hex digits");
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40).ok_or_else(refused)?;
        let mut bytes = [0; 20];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| refused())?;
        let address = Self(bytes);
        let mixed = digits.bytes().any(|b| b.is_ascii_lowercase()) && digits.bytes().any(|b| b.is_ascii_uppercase());
        if mixed && address.to_string() != text {
            return Err(BadWord::new("has a wrong checksum (EIP-55): a digit is mistyped"));
        }
        Ok(address)
    }
}

/// A wallet on a chain. Its text is CAIP-10, such as `eip155:1:0x…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wallet {
    /// Chain on which it was proved. The same key holds the address on every EVM chain.
    pub chain: ChainId,
    /// Its address.
    pub address: Address,
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.chain, self.address)
    }
}

impl FromStr for Wallet {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let (chain, address) =
            text.rsplit_once(':').ok_or_else(|| BadWord::new("must be a CAIP-10 account, such as eip155:1:0x…"))?;
        Ok(Self { chain: chain.parse()?, address: address.parse()? })
    }
}

/// An unsigned 256-bit number. Its text is decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uint256([u8; 32]);

impl Uint256 {
    /// Zero.
    pub const ZERO: Self = Self([0; 32]);
    /// One.
    pub const ONE: Self = Self::from_u64(1);

    /// From big-endian bytes.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From a small number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        let mut bytes = [0; 32];
        let small = number.to_be_bytes();
        let mut place = 0;
        while place < 8 {
            bytes[24 + place] = small[place];
            place += 1;
        }
        Self(bytes)
    }

    /// As big-endian bytes.
    #[must_use]
    pub const fn as_be_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Divides by ten in place; gives the remainder.
    fn divide_by_ten(&mut self) -> u8 {
        let mut carry = 0_u16;
        for byte in &mut self.0 {
            let value = (carry << 8) | u16::from(*byte);
            // value < 10 * 256, so both parts fit a byte.
            *byte = (value / 10).to_le_bytes()[0];
            carry = value % 10;
        }
        carry.to_le_bytes()[0]
    }

    /// Multiplies by ten and adds; false on overflow.
    fn push_digit(&mut self, digit: u8) -> bool {
        let mut carry = u16::from(digit);
        for byte in self.0.iter_mut().rev() {
            let value = u16::from(*byte) * 10 + carry;
            *byte = value.to_le_bytes()[0];
            carry = value >> 8;
        }
        carry == 0
    }
}

impl fmt::Display for Uint256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = *self;
        let mut digits = Vec::new();
        loop {
            digits.push(char::from(b'0' + rest.divide_by_ten()));
            if rest == Self::ZERO {
                break;
            }
        }
        f.write_str(&digits.into_iter().rev().collect::<String>())
    }
}

impl FromStr for Uint256 {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        if !is_plain_decimal(text) {
            return Err(BadWord::new("must be a whole number in decimal, without sign or leading zeros"));
        }
        let mut number = Self::ZERO;
        for digit in text.bytes() {
            if !number.push_digit(digit - b'0') {
                return Err(BadWord::new("must be below 2^256"));
            }
        }
        Ok(number)
    }
}

/// Digits only, at most 78 of them (2^256 has 78), no needless zero in front.
fn is_plain_decimal(text: &str) -> bool {
    let digits_only = !text.is_empty() && text.len() <= 78 && text.bytes().all(|b| b.is_ascii_digit());
    digits_only && (text == "0" || !text.starts_with('0'))
}

/// Keccak-256, the hash of Ethereum.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak::v256();
    hasher.update(bytes);
    let mut hash = [0; 32];
    hasher.finalize(&mut hash);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_eip_55_read_back_as_they_are() {
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.lower().parse(), Ok(address));
        }
    }

    #[test]
    fn an_address_with_a_wrong_checksum_or_shape_is_refused() {
        for text in [
            "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
            "0X5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
            "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaeg",
            "",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_retired_chain_is_refused_with_what_to_use() {
        let refused = "eip155:80001".parse::<ChainId>().unwrap_err();
        assert_eq!(refused.to_string(), "Polygon Mumbai (eip155:80001) has been shut down; use eip155:80002");
        for text in ["eip155:0", "eip155:01", "eip155:", "eip155:-1", "solana:1", "1", "eip155:99999999999999999999"] {
            assert!(text.parse::<ChainId>().is_err(), "{text}");
        }
        assert_eq!("eip155:31337".parse(), Ok(ChainId::any(31337)));
    }

    #[test]
    fn the_largest_number_is_taken_and_the_next_one_refused() {
        let largest = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(largest.parse(), Ok(Uint256::from_be_bytes([0xff; 32])));
        assert_eq!(Uint256::from_be_bytes([0xff; 32]).to_string(), largest);
        assert!("115792089237316195423570985008687907853269984665640564039457584007913129639936".parse::<Uint256>().is_err());
        for text in ["", "01", "+1", "-1", "1.0", "0x1", " 1"] {
            assert!(text.parse::<Uint256>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_number_reads_back(bytes: [u8; 32]) {
            let number = Uint256::from_be_bytes(bytes);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }

        #[test]
        fn every_wallet_reads_back(chain in 1_u64..80_000, bytes: [u8; 20]) {
            let wallet = Wallet { chain: ChainId::any(chain), address: Address::new(bytes) };
            prop_assert_eq!(wallet.to_string().parse(), Ok(wallet));
        }

        #[test]
        fn small_numbers_agree_with_the_machine(number: u64) {
            prop_assert_eq!(Uint256::from_u64(number).to_string(), number.to_string());
        }
    }
}
