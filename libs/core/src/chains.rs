//! Chains known by name. Any other EVM chain works too, once it has an endpoint.

/// What is known of a chain without asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownChain {
    /// Its EIP-155 number.
    pub number: u64,
    /// Its name, for people.
    pub name: &'static str,
    /// Symbol of its own coin.
    pub symbol: &'static str,
    /// Its coins are worth nothing.
    pub testnet: bool,
    /// Shut down by its makers.
    pub retired: bool,
    /// The chain that took its place.
    pub successor: Option<u64>,
}

const fn chain(number: u64, name: &'static str, symbol: &'static str, testnet: bool) -> KnownChain {
    KnownChain { number, name, symbol, testnet, retired: false, successor: None }
}

/// The chains by name, main nets before test nets.
pub const KNOWN: [KnownChain; 11] = [
    chain(1, "Ethereum", "ETH", false),
    chain(137, "Polygon", "POL", false),
    chain(56, "BNB Smart Chain", "BNB", false),
    chain(42161, "Arbitrum One", "ETH", false),
    chain(10, "OP Mainnet", "ETH", false),
    chain(11_155_111, "Sepolia", "ETH", true),
    chain(80002, "Polygon Amoy", "POL", true),
    chain(97, "BNB Smart Chain Testnet", "tBNB", true),
    chain(421_614, "Arbitrum Sepolia", "ETH", true),
    chain(11_155_420, "OP Sepolia", "ETH", true),
    KnownChain { number: 80001, name: "Polygon Mumbai", symbol: "MATIC", testnet: true, retired: true, successor: Some(80002) },
];

/// What is known of the chain with this number.
#[must_use]
pub fn known(number: u64) -> Option<&'static KnownChain> {
    KNOWN.iter().find(|chain| chain.number == number)
}
