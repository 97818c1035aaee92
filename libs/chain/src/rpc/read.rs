//! One endpoint's whole try: which chain and block it has, then the calls at that block.
//!
//! Anybody may write a contract and have it read. So each call gets a bounded amount of gas, and a contract that spoils
//! a request all the same is found out by reading each contract apart: the calls of others are answered, and an
//! endpoint that has just told its head is not to blame.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use streamgate_core::evm::Address;
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, BlockRef, Call, Limits, Reading,
    endpoint::{Endpoint, Fault},
    wire::{self, Ask, Told},
};
use crate::abi;

/// Requests of one try that are under way at the same time.
const REQUESTS_AT_ONCE: usize = 4;
/// Requests of one try that read contracts apart. More would hardly fit into its time, and a provider would count them
/// against the rate that all reads share.
const APART_AT_MOST: usize = 100;
/// Gas of a call that is read alone: some 800 reads of storage. Whether a proxy reverts for want of gas can't be told, so
/// this is far above what an honest contract needs; an answer bought with it has about 1 MB at the most.
const GAS_OF_CALL: u64 = 2_000_000;
/// Gas of an aggregate for each call in it. One that needs more is read alone.
const GAS_IN_AGGREGATE: u64 = 150_000;
/// Gas of an aggregate itself. With 100 calls all of it is below 2^24, the most that a transaction may have (EIP-7825).
const GAS_OF_AGGREGATE: u64 = 500_000;
/// JSON-RPC's code for parameters that a node does not understand.
const INVALID_PARAMS: i64 = -32602;
/// Codes of errors that no contract can bring about (JSON-RPC 2.0, EIP-1474). Under any other a node may report how a
/// contract failed. Its maker chose that, so it is no fault of the endpoint: else one bad gate could take a chain away
/// from all others.
const ERRORS_OF_ENDPOINTS: [i64; 9] = [-32700, -32600, -32601, INVALID_PARAMS, -32001, -32002, -32004, -32005, -32006];

/// The block that an endpoint calls newest, after it has said which chain it serves.
pub(super) async fn head(endpoint: &Endpoint) -> Result<BlockRef, Fault> {
    let mut asks = vec![
        Ask { method: "eth_chainId", params: json!([]) },
        Ask { method: "eth_getBlockByNumber", params: json!(["latest", false]) },
    ];
    if endpoint.multicall().is_none() {
        asks.push(Ask { method: "eth_getCode", params: json!([abi::MULTICALL3.lower(), "latest"]) });
    }
    let told = endpoint.ask(&asks).await?;
    let mut told = told.iter();
    let chain = result(told.next()).and_then(wire::quantity).ok_or(Fault::NoHead)?;
    if chain != endpoint.chain.number() {
        return Err(Fault::WrongChain);
    }
    let block = result(told.next()).ok_or(Fault::NoHead)?;
    let number = block.get("number").and_then(wire::quantity).ok_or(Fault::NoHead)?;
    let hash = block.get("hash").and_then(wire::data).and_then(|hash| hash.try_into().ok()).ok_or(Fault::NoHead)?;
    if let Some(code) = result(told.next()).and_then(wire::data) {
        endpoint.learn_multicall(!code.is_empty());
    }
    Ok(BlockRef { chain: endpoint.chain, number, hash })
}

/// What a unit of gas costs on the endpoint's chain now, in wei.
pub(super) async fn gas_price(endpoint: &Endpoint) -> Result<u64, Fault> {
    let asks = ["eth_chainId", "eth_gasPrice"].map(|method| Ask { method, params: json!([]) });
    let told = endpoint.ask(&asks).await?;
    let number = |place: usize| result(told.get(place)).and_then(wire::quantity).ok_or(Fault::NoHead);
    if number(0)? != endpoint.chain.number() {
        return Err(Fault::WrongChain);
    }
    number(1)
}

fn result(told: Option<&Told>) -> Option<&Value> {
    match told {
        Some(Told::Result(value)) => Some(value),
        _ => None,
    }
}

/// What a try gave, and the fault that ended it early.
pub(super) struct Tried {
    pub reading: Reading,
    pub fault: Option<Fault>,
}

/// Reads the calls at `block`, until `end` at the latest. What was read before a fault is kept.
pub(super) async fn at(
    endpoint: &Endpoint,
    block: BlockRef,
    calls: &[Call],
    limits: &Limits,
    end: Instant,
) -> Result<Tried, Fault> {
    let mut reader = Reader { endpoint, block, calls, per_request: limits.calls_per_request, answers: vec![None; calls.len()] };
    let fault = reader.read(end).await.err();
    match fault {
        Some(fault) if reader.answers.iter().all(Option::is_none) => Err(fault),
        fault => Ok(Tried { reading: Reading { block, answers: reader.answers(fault.as_ref()) }, fault }),
    }
}

fn half_until(end: Instant) -> Instant {
    let now = Instant::now();
    now + end.saturating_duration_since(now) / 2
}

fn not_answered() -> Answer {
    Answer::Failed("an endpoint left out an answer".to_owned())
}

/// One try's calls at one block, and the answers so far.
struct Reader<'a> {
    endpoint: &'a Endpoint,
    block: BlockRef,
    calls: &'a [Call],
    per_request: usize,
    answers: Vec<Option<Answer>>,
}

/// Places of calls that share a request, and what was told or why the request was spoilt.
type Part = (Vec<usize>, Result<Vec<Told>, Fault>);

impl Reader<'_> {
    async fn read(&mut self, end: Instant) -> Result<(), Fault> {
        if self.endpoint.multicall() == Some(true) && self.calls.len() > 1 {
            self.aggregated(half_until(end)).await?;
        }
        // A call that failed inside an aggregate may have starved for gas there: only alone its word counts.
        if self.open_by_contract().len() > 1 {
            self.together(half_until(end)).await?;
        }
        self.apart(end).await
    }

    /// All answers; what is open was not asked for, because of a fault or of the limit.
    fn answers(self, fault: Option<&Fault>) -> Vec<Answer> {
        let unread =
            |call: &Call| fault.map_or_else(|| spoilt(call, &Fault::TimedOut), |fault| Answer::Failed(fault.to_string()));
        self.answers.into_iter().zip(self.calls).map(|(answer, call)| answer.unwrap_or_else(|| unread(call))).collect()
    }

    /// Places without an answer, by the contract that is called.
    fn open_by_contract(&self) -> BTreeMap<Option<Address>, Vec<usize>> {
        let mut found: BTreeMap<Option<Address>, Vec<usize>> = BTreeMap::new();
        for (place, call) in self.calls.iter().enumerate().filter(|(place, _)| self.answers[*place].is_none()) {
            found.entry(contract(call)).or_default().push(place);
        }
        found
    }

    /// As many calls in a part as may be. Those of one contract lie side by side: a bad one spoils few parts.
    fn large_parts(&self) -> Vec<Vec<usize>> {
        let open: Vec<usize> = self.open_by_contract().into_values().flatten().collect();
        open.chunks(self.per_request).map(<[usize]>::to_vec).collect()
    }

    /// The calls of each contract for themselves. Where there are too many, each block has others come first: nobody can
    /// choose an address that keeps another's from being read.
    fn small_parts(&self) -> Vec<Vec<usize>> {
        let mut open = self.open_by_contract();
        let coins = open.remove(&None);
        let mut contracts: Vec<Vec<usize>> = open.into_values().collect();
        let drawn = self.block.hash.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let first = drawn % contracts.len().max(1);
        contracts.rotate_left(first);
        let parts = coins.iter().chain(&contracts).flat_map(|open| open.chunks(self.per_request));
        parts.take(APART_AT_MOST).map(<[usize]>::to_vec).collect()
    }

    /// Reads all calls by one request, through Multicall3. What fails there stays open.
    async fn aggregated(&mut self, end: Instant) -> Result<(), Fault> {
        let parts = self.large_parts();
        let inputs: Vec<(Vec<u8>, u64)> = parts.iter().map(|part| aggregate(self.calls, part)).collect();
        let asks = |pin: &Value| inputs.iter().map(|(input, gas)| eth_call(abi::MULTICALL3, input, *gas, pin)).collect();
        let Ok(told) = unless_spoilt(end, ask_at(self.endpoint, self.block, asks)).await? else { return Ok(()) };
        for (part, told) in parts.into_iter().zip(told) {
            let Told::Result(value) = told else { continue };
            let Some(outcomes) = wire::data(&value).and_then(|bytes| abi::outcomes(&bytes, part.len())) else { continue };
            for (place, outcome) in part.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.success) {
                self.answers[place] = Some(word(&outcome.output));
            }
        }
        Ok(())
    }

    /// Reads the open calls without Multicall3. What is spoilt stays open.
    async fn together(&mut self, end: Instant) -> Result<(), Fault> {
        let (told, fault) = self.singles(self.large_parts(), end).await;
        for (part, told) in told {
            self.fill(&part, told.unwrap_or_default());
        }
        fault.map_or(Ok(()), Err)
    }

    /// Reads the open calls of each contract in requests of their own: what is spoilt now is that contract's doing.
    async fn apart(&mut self, end: Instant) -> Result<(), Fault> {
        let (told, fault) = self.singles(self.small_parts(), end).await;
        for (part, told) in told {
            match told {
                Ok(told) => self.fill(&part, told),
                Err(fault) => part.iter().for_each(|place| self.answers[*place] = Some(spoilt(&self.calls[*place], &fault))),
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// One request for each part, up to a fault that ends the try.
    async fn singles(&self, parts: Vec<Vec<usize>>, end: Instant) -> (Vec<Part>, Option<Fault>) {
        let requests = parts.into_iter().map(|part| async move {
            let asks = |pin: &Value| part.iter().map(|place| single(&self.calls[*place], pin)).collect();
            let told = unless_spoilt(end, ask_at(self.endpoint, self.block, asks)).await;
            (part, told)
        });
        let mut under_way = stream::iter(requests.collect::<Vec<_>>()).buffer_unordered(REQUESTS_AT_ONCE);
        let mut all = Vec::new();
        while let Some((part, told)) = under_way.next().await {
            match told {
                Ok(told) => all.push((part, told)),
                Err(fault) => return (all, Some(fault)),
            }
        }
        (all, None)
    }

    fn fill(&mut self, part: &[usize], told: Vec<Told>) {
        for (place, told) in part.iter().zip(told) {
            self.answers[*place] = Some(answer(&self.calls[*place], told));
        }
    }
}

const fn contract(call: &Call) -> Option<Address> {
    match call {
        Call::View { to, .. } => Some(*to),
        Call::CoinBalance(_) => None,
    }
}

/// What a request gave. Too much, or nothing in time, may be the doing of a contract in it, so it does not end the try.
async fn unless_spoilt<T>(end: Instant, request: impl Future<Output = Result<T, Fault>>) -> Result<Result<T, Fault>, Fault> {
    match timeout_at(end, request).await.unwrap_or(Err(Fault::TimedOut)) {
        Err(fault @ (Fault::TooLarge | Fault::TimedOut)) => Ok(Err(fault)),
        Err(fault) => Err(fault),
        Ok(told) => Ok(Ok(told)),
    }
}

fn spoilt(call: &Call, fault: &Fault) -> Answer {
    match (call, fault) {
        // No contract is run for it.
        (Call::CoinBalance(_), _) => Answer::Failed(fault.to_string()),
        (Call::View { .. }, Fault::TooLarge) => Answer::Unusable("the contract answers too much".to_owned()),
        (Call::View { .. }, _) => Answer::Unusable("the contract could not be read in time".to_owned()),
    }
}

/// The input of an aggregate, and its gas.
fn aggregate(calls: &[Call], part: &[usize]) -> (Vec<u8>, u64) {
    let inner: Vec<abi::Inner> = part.iter().map(|place| inner(&calls[*place])).collect();
    let count = u64::try_from(inner.len()).unwrap_or(u64::MAX);
    (abi::aggregate(&inner), GAS_IN_AGGREGATE.saturating_mul(count).saturating_add(GAS_OF_AGGREGATE))
}

fn inner(call: &Call) -> abi::Inner {
    match call {
        Call::View { to, input } => abi::Inner { target: *to, input: input.clone() },
        Call::CoinBalance(owner) => abi::Inner { target: abi::MULTICALL3, input: abi::coin_balance(*owner) },
    }
}

/// Asks at the block's hash, and at its number where an endpoint does not know EIP-1898.
async fn ask_at(endpoint: &Endpoint, block: BlockRef, asks: impl Fn(&Value) -> Vec<Ask>) -> Result<Vec<Told>, Fault> {
    let number = Value::from(format!("{:#x}", block.number));
    if endpoint.pins_by_hash() {
        let told = endpoint.ask(&asks(&json!({"blockHash": format!("0x{}", hex::encode(block.hash))}))).await?;
        let all_refused = told.iter().all(|told| matches!(told, Told::Error { code: INVALID_PARAMS, .. }));
        if !all_refused || told.is_empty() {
            return Ok(told);
        }
        endpoint.pin_by_number();
    }
    endpoint.ask(&asks(&number)).await
}

fn eth_call(to: Address, input: &[u8], gas: u64, pin: &Value) -> Ask {
    let input = format!("0x{}", hex::encode(input));
    Ask { method: "eth_call", params: json!([{"to": to.lower(), "data": input, "gas": format!("{gas:#x}")}, pin]) }
}

fn single(call: &Call, pin: &Value) -> Ask {
    match call {
        Call::View { to, input } => eth_call(*to, input, GAS_OF_CALL, pin),
        Call::CoinBalance(owner) => Ask { method: "eth_getBalance", params: json!([owner.lower(), pin]) },
    }
}

fn answer(call: &Call, told: Told) -> Answer {
    match (call, told) {
        (_, Told::Missing) => not_answered(),
        (Call::View { .. }, Told::Error { code, message }) if wire::is_revert(code, &message) => Answer::Reverted,
        (Call::View { .. }, Told::Error { code, .. }) if !is_of_endpoint(code) => {
            Answer::Unusable(format!("the contract could not be run (code {code})"))
        }
        (_, Told::Error { code, .. }) => Answer::Failed(format!("an endpoint refused the read (code {code})")),
        (Call::CoinBalance(_), Told::Result(value)) => wire::quantity_word(&value)
            .map_or_else(|| Answer::Failed("an endpoint gave a balance that is no number".to_owned()), Answer::Word),
        (Call::View { .. }, Told::Result(value)) => wire::data(&value)
            .map_or_else(|| Answer::Failed("an endpoint gave an answer that is no data".to_owned()), |bytes| word(&bytes)),
    }
}

/// Some providers give the HTTP status that they mean.
fn is_of_endpoint(code: i64) -> bool {
    ERRORS_OF_ENDPOINTS.contains(&code) || (400..600).contains(&code)
}

/// Exactly one word, or nothing that can be trusted.
fn word(bytes: &[u8]) -> Answer {
    match bytes {
        [] => Answer::Empty,
        bytes => <[u8; 32]>::try_from(bytes).map_or_else(
            |_| Answer::Unusable(format!("the contract's answer has {} bytes instead of 32", bytes.len())),
            Answer::Word,
        ),
    }
}
