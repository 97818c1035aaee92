//! Calls to contracts: their bytes, and strict reading of their answers.

use ethers_contract::abigen;
use ethers_core::{
    abi::{AbiDecode, AbiEncode},
    types::{Address as EthersAddress, Bytes, U256},
};
use streamgate_core::evm::{Address, Uint256};

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_imports,
    clippy::redundant_clone,
    missing_docs,
    missing_debug_implementations,
    dead_code,
    reason = "generated code"
)]
mod generated {
    use super::abigen;

    abigen!(
        Erc721,
        r"[
            function balanceOf(address owner) external view returns (uint256)
            function ownerOf(uint256 tokenId) external view returns (address)
        ]"
    );
    abigen!(
        Erc1155,
        r"[
            function balanceOf(address account, uint256 id) external view returns (uint256)
        ]"
    );
    abigen!(
        Multicall3,
        r"[
            struct Call3 { address target; bool allowFailure; bytes callData; }
            struct Outcome { bool success; bytes returnData; }
            function aggregate3(Call3[] calldata calls) external payable returns (Outcome[] memory returnData)
            function getEthBalance(address addr) external view returns (uint256 balance)
        ]"
    );
}

use generated::{erc_721, erc_1155, multicall_3};

/// Where Multicall3 lives on every chain that has it.
pub const MULTICALL3: Address = Address::new([
    0xca, 0x11, 0xbd, 0xe0, 0x59, 0x77, 0xb3, 0x63, 0x11, 0x67, 0x02, 0x88, 0x62, 0xbe, 0x2a, 0x17, 0x39, 0x76, 0xca, 0x11,
]);

/// One call inside an aggregate, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Contract that is called.
    pub target: Address,
    /// Its input.
    pub input: Vec<u8>,
}

/// What one call inside an aggregate gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// It did not revert.
    pub success: bool,
    /// What it returned.
    pub output: Vec<u8>,
}

fn to_ethers(address: Address) -> EthersAddress {
    EthersAddress::from(*address.as_bytes())
}

fn number(value: Uint256) -> U256 {
    U256::from_big_endian(value.as_be_bytes())
}

/// `balanceOf(address)`, which ERC-20 and ERC-721 share.
#[must_use]
pub fn balance_of(owner: Address) -> Vec<u8> {
    erc_721::BalanceOfCall { owner: to_ethers(owner) }.encode()
}

/// `ownerOf(uint256)` of ERC-721.
#[must_use]
pub fn owner_of(token: Uint256) -> Vec<u8> {
    erc_721::OwnerOfCall { token_id: number(token) }.encode()
}

/// `balanceOf(address,uint256)` of ERC-1155.
#[must_use]
pub fn balance_of_id(owner: Address, token: Uint256) -> Vec<u8> {
    erc_1155::BalanceOfCall { account: to_ethers(owner), id: number(token) }.encode()
}

/// `getEthBalance(address)` of Multicall3.
#[must_use]
pub fn coin_balance(owner: Address) -> Vec<u8> {
    multicall_3::GetEthBalanceCall { addr: to_ethers(owner) }.encode()
}

/// `aggregate3` of Multicall3, where one call's failure does not end the others.
#[must_use]
pub fn aggregate(calls: &[Inner]) -> Vec<u8> {
    let calls = calls.iter().map(|call| multicall_3::Call3 {
        target: to_ethers(call.target),
        allow_failure: true,
        call_data: Bytes::from(call.input.clone()),
    });
    multicall_3::Aggregate3Call { calls: calls.collect() }.encode()
}

/// Reads what `aggregate3` returned: as many outcomes as there were calls, or nothing.
#[must_use]
pub fn outcomes(output: &[u8], count: usize) -> Option<Vec<Outcome>> {
    let returned = multicall_3::Aggregate3Return::decode(output).ok()?.return_data;
    let outcomes = returned.into_iter().map(|(success, output)| Outcome { success, output: output.to_vec() });
    Some(outcomes.collect::<Vec<_>>()).filter(|outcomes| outcomes.len() == count)
}

/// What Multicall3 is asked, for a stand-in of it in tests.
#[must_use]
pub fn aggregated(input: &[u8]) -> Option<Vec<Inner>> {
    let call = multicall_3::Aggregate3Call::decode(input).ok()?;
    let inner = call.calls.into_iter().map(|call| Inner { target: Address::new(call.target.0), input: call.call_data.to_vec() });
    Some(inner.collect())
}

/// What Multicall3 answers, for a stand-in of it in tests.
#[must_use]
pub fn aggregate_return(outcomes: Vec<Outcome>) -> Vec<u8> {
    let outcomes = outcomes.into_iter().map(|outcome| (outcome.success, Bytes::from(outcome.output)));
    multicall_3::Aggregate3Return { return_data: outcomes.collect() }.encode()
}

/// A returned word read as an address: twelve zero bytes and twenty of its own.
#[must_use]
pub fn as_address(word: &[u8; 32]) -> Option<Address> {
    if word[..12].iter().any(|byte| *byte != 0) {
        return None;
    }
    word[12..].try_into().ok().map(Address::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_the_standards_own() {
        let someone = Address::new([0x11; 20]);
        assert_eq!(hex::encode(&balance_of(someone)[..4]), "70a08231");
        assert_eq!(hex::encode(&owner_of(Uint256::ONE)[..4]), "6352211e");
        assert_eq!(hex::encode(&balance_of_id(someone, Uint256::ONE)[..4]), "00fdd58e");
        assert_eq!(hex::encode(&coin_balance(someone)[..4]), "4d2301cc");
        assert_eq!(hex::encode(&aggregate(&[])[..4]), "82ad56cb");
        assert_eq!(MULTICALL3.to_string(), "0xcA11bde05977b3631167028862bE2a173976CA11");
    }

    #[test]
    fn an_aggregate_reads_back_and_a_cut_one_does_not() {
        let calls = vec![Inner { target: Address::new([1; 20]), input: vec![1, 2, 3] }; 3];
        assert_eq!(aggregated(&aggregate(&calls)), Some(calls));
        let answers = vec![Outcome { success: true, output: vec![0; 32] }, Outcome { success: false, output: vec![] }];
        let bytes = aggregate_return(answers.clone());
        assert_eq!(outcomes(&bytes, 2), Some(answers));
        assert_eq!(outcomes(&bytes, 3), None);
        for end in 0..bytes.len() - 32 {
            assert_eq!(outcomes(&bytes[..end], 2), None, "cut at {end}");
        }
    }

    #[test]
    fn a_word_with_dirt_before_the_address_is_none() {
        let mut word = [0; 32];
        word[31] = 1;
        assert!(as_address(&word).is_some());
        word[0] = 1;
        assert_eq!(as_address(&word), None);
    }
}
