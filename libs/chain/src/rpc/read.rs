//! One endpoint's whole try: which chain and block it has, then the calls at that block.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use streamgate_core::evm::Address;

use super::{
    Answer, BlockRef, Call, Limits, Reading,
    endpoint::{Endpoint, Fault},
    wire::{self, Ask, Told},
};
use crate::abi;

/// Requests of one try that are under way at the same time.
const REQUESTS_AT_ONCE: usize = 4;
/// JSON-RPC's code for parameters that a node does not understand.
const INVALID_PARAMS: i64 = -32602;
/// Codes under which nodes report that running a contract failed. Its maker chose that, so it is
/// no fault of the endpoint: else one bad gate could take a chain away from all others.
const EXECUTION_ERRORS: [i64; 4] = [3, -32000, -32003, -32015];

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

/// Reads the calls at `block`: through Multicall3 where the chain has it, and one by one what that left open.
pub(super) async fn at(endpoint: &Endpoint, block: BlockRef, calls: &[Call], limits: &Limits) -> Result<Reading, Fault> {
    let mut answers = vec![None; calls.len()];
    if endpoint.multicall() == Some(true) && calls.len() > 1 {
        aggregated(endpoint, block, calls, limits, &mut answers).await?;
    }
    // A call that failed inside an aggregate may have starved for gas there: only alone its word counts.
    let open: Vec<usize> = (0..calls.len()).filter(|place| answers[*place].is_none()).collect();
    for (place, answer) in one_by_one(endpoint, block, calls, &open, limits).await? {
        answers[place] = Some(answer);
    }
    let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(not_answered)).collect();
    Ok(Reading { block, answers })
}

fn not_answered() -> Answer {
    Answer::Failed("an endpoint left out an answer".to_owned())
}

async fn aggregated(
    endpoint: &Endpoint,
    block: BlockRef,
    calls: &[Call],
    limits: &Limits,
    answers: &mut [Option<Answer>],
) -> Result<(), Fault> {
    let places: Vec<usize> = (0..calls.len()).collect();
    let chunks: Vec<&[usize]> = places.chunks(limits.calls_per_request).collect();
    let inputs: Vec<Vec<u8>> =
        chunks.iter().map(|chunk| abi::aggregate(&chunk.iter().map(|place| inner(&calls[*place])).collect::<Vec<_>>())).collect();
    let told = ask_at(endpoint, block, |pin| inputs.iter().map(|input| eth_call(abi::MULTICALL3, input, pin)).collect()).await?;
    for (chunk, told) in chunks.into_iter().zip(told) {
        let Told::Result(value) = told else { continue };
        let Some(outcomes) = wire::data(&value).and_then(|bytes| abi::outcomes(&bytes, chunk.len())) else { continue };
        for (place, outcome) in chunk.iter().zip(outcomes) {
            if outcome.success {
                answers[*place] = Some(word(&outcome.output));
            }
        }
    }
    Ok(())
}

fn inner(call: &Call) -> abi::Inner {
    match call {
        Call::View { to, input } => abi::Inner { target: *to, input: input.clone() },
        Call::CoinBalance(owner) => abi::Inner { target: abi::MULTICALL3, input: abi::coin_balance(*owner) },
    }
}

async fn one_by_one(
    endpoint: &Endpoint,
    block: BlockRef,
    calls: &[Call],
    places: &[usize],
    limits: &Limits,
) -> Result<Vec<(usize, Answer)>, Fault> {
    let chunks: Vec<_> =
        places.chunks(limits.calls_per_request).map(|chunk| chunk_of_singles(endpoint, block, calls, chunk)).collect();
    let answers: Vec<Vec<_>> = stream::iter(chunks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn chunk_of_singles(
    endpoint: &Endpoint,
    block: BlockRef,
    calls: &[Call],
    places: &[usize],
) -> Result<Vec<(usize, Answer)>, Fault> {
    let told = ask_at(endpoint, block, |pin| places.iter().map(|place| single(&calls[*place], pin)).collect()).await?;
    Ok(places.iter().zip(told).map(|(place, told)| (*place, answer(&calls[*place], told))).collect())
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

fn eth_call(to: Address, input: &[u8], pin: &Value) -> Ask {
    let input = format!("0x{}", hex::encode(input));
    Ask { method: "eth_call", params: json!([{"to": to.lower(), "data": input}, pin]) }
}

fn single(call: &Call, pin: &Value) -> Ask {
    match call {
        Call::View { to, input } => eth_call(*to, input, pin),
        Call::CoinBalance(owner) => Ask { method: "eth_getBalance", params: json!([owner.lower(), pin]) },
    }
}

fn answer(call: &Call, told: Told) -> Answer {
    match (call, told) {
        (_, Told::Missing) => not_answered(),
        (Call::View { .. }, Told::Error { code, message }) if wire::is_revert(code, &message) => Answer::Reverted,
        (Call::View { .. }, Told::Error { code, .. }) if EXECUTION_ERRORS.contains(&code) => {
            Answer::Unusable(format!("the contract could not be run (code {code})"))
        }
        (_, Told::Error { code, .. }) => Answer::Failed(format!("an endpoint refused the read (code {code})")),
        (Call::CoinBalance(_), Told::Result(value)) => wire::quantity_word(&value)
            .map_or_else(|| Answer::Failed("an endpoint gave a balance that is no number".to_owned()), Answer::Word),
        (Call::View { .. }, Told::Result(value)) => wire::data(&value)
            .map_or_else(|| Answer::Failed("an endpoint gave an answer that is no data".to_owned()), |bytes| word(&bytes)),
    }
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
