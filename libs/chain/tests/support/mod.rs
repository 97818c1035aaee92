//! A JSON-RPC node that knows a few contracts, and can be told to misbehave.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Response, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use streamgate_chain::{
    Chains,
    abi::{self, MULTICALL3},
    rpc::{Limits, Pool},
};
use streamgate_core::evm::{Address, ChainId};

pub const CHAIN: u64 = 31337;
pub const SECRET: &str = "key-that-nobody-may-see";
pub const PASS: Address = Address::new([0xaa; 20]);
pub const REFUSING: Address = Address::new([0xbb; 20]);
pub const NOWHERE: Address = Address::new([0xcc; 20]);
/// Answers megabytes, whatever gas it gets.
pub const HUGE: Address = Address::new([0xdd; 20]);
/// Answers megabytes when it gets the gas for them.
pub const GLUTTON: Address = Address::new([0xee; 20]);
/// Fails in an aggregate; who reads it alone has asked too often.
pub const LIMITED: Address = Address::new([0xde; 20]);
/// Fails in the way of its choice.
pub const INVALID: Address = Address::new([0xdf; 20]);
/// Is never done, and neither is a request with it.
pub const SLOW: Address = Address::new([0xef; 20]);
pub const HOLDER: Address = Address::new([0x11; 20]);
pub const STRANGER: Address = Address::new([0x22; 20]);

/// Ways to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Hangs,
    Status500,
    Throttles,
    Html,
    CutJson,
    Redirects,
    Floods,
    WrongChain,
    NoBlock,
    ShortWords,
    LongWords,
    EmptyWords,
    DropsCalls,
    DropsEverything,
    WrongIds,
    ResultAndError,
    OneObject,
    RateLimitedItems,
    OutOfGas,
    NotHex,
    FarAhead,
    InternalErrors,
    HangsOnCalls,
}

pub const FAULTS: [Fault; 23] = [
    Fault::Hangs,
    Fault::Status500,
    Fault::Throttles,
    Fault::Html,
    Fault::CutJson,
    Fault::Redirects,
    Fault::Floods,
    Fault::WrongChain,
    Fault::NoBlock,
    Fault::ShortWords,
    Fault::LongWords,
    Fault::EmptyWords,
    Fault::DropsCalls,
    Fault::DropsEverything,
    Fault::WrongIds,
    Fault::ResultAndError,
    Fault::OneObject,
    Fault::RateLimitedItems,
    Fault::OutOfGas,
    Fault::NotHex,
    Fault::FarAhead,
    Fault::InternalErrors,
    Fault::HangsOnCalls,
];

/// What the node is and has seen.
#[derive(Debug)]
pub struct World {
    pub fault: Fault,
    pub multicall: bool,
    pub multicall_starves: bool,
    pub head: u64,
    pub knows_eip_1898: bool,
    pub balances: HashMap<(Address, Address), u64>,
    pub requests: usize,
    /// Block parameters of every read.
    pub pins: Vec<Value>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub url: String,
    pub world: Arc<Mutex<World>>,
}

impl Fault {
    /// Whether only the time of a try ends it.
    pub const fn hangs(self) -> bool {
        matches!(self, Self::Hangs | Self::HangsOnCalls)
    }
}

impl Node {
    pub async fn start() -> Self {
        let world = World {
            fault: Fault::None,
            multicall: true,
            multicall_starves: false,
            head: 1000,
            knows_eip_1898: true,
            balances: HashMap::from([((PASS, HOLDER), 1)]),
            requests: 0,
            pins: Vec::new(),
        };
        let world = Arc::new(Mutex::new(world));
        let app = Router::new().route("/{*path}", post(answer)).with_state(Arc::clone(&world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{SECRET}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, world }
    }

    pub fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    pub fn requests(&self) -> usize {
        self.world.lock().unwrap().requests
    }
}

pub fn chains(nodes: &[&Node], limits: Limits) -> Chains {
    let urls = nodes.iter().map(|node| node.url.parse().unwrap()).collect();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let chain = ChainId::any(CHAIN);
    Chains::default().with(chain, Arc::new(Pool::new(chain, urls, &http, limits)))
}

async fn answer(State(world): State<Arc<Mutex<World>>>, body: String) -> Response<Body> {
    let fault = {
        let mut world = world.lock().unwrap();
        world.requests += 1;
        world.fault
    };
    let plain = |status: u16, body: &str| Response::builder().status(status).body(Body::from(body.to_owned())).unwrap();
    match fault {
        _ if body.contains(&hex::encode(SLOW.as_bytes())) => std::future::pending().await,
        _ if body.contains(&LIMITED.lower()) => return plain(429, ""),
        // As text at once: to encode it as an answer takes an unoptimised node seconds.
        _ if body.contains(&hex::encode(HUGE.as_bytes())) => return plain(200, &"0".repeat(5 * 1024 * 1024)),
        Fault::Hangs => std::future::pending().await,
        Fault::HangsOnCalls if body.contains("eth_call") => std::future::pending().await,
        Fault::Status500 => return plain(500, "[]"),
        Fault::Throttles => return plain(429, ""),
        Fault::Html => return plain(200, "<html>maintenance</html>"),
        Fault::Redirects => {
            return Response::builder()
                .status(StatusCode::TEMPORARY_REDIRECT)
                .header("location", "/elsewhere")
                .body(Body::empty())
                .unwrap();
        }
        Fault::Floods => return plain(200, &"[".repeat(5 * 1024 * 1024)),
        Fault::OneObject => {
            return plain(
                200,
                &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "no batches"}}).to_string(),
            );
        }
        _ => {}
    }
    let asks: Vec<Value> = serde_json::from_str(&body).unwrap();
    let mut told: Vec<Value> = asks.iter().map(|ask| item(&world, ask)).collect();
    match fault {
        Fault::DropsCalls => {
            told = told.into_iter().zip(&asks).filter(|(_, ask)| ask["method"] != "eth_call").map(|(told, _)| told).collect()
        }
        Fault::DropsEverything => told.clear(),
        Fault::WrongIds => told.iter_mut().for_each(|told| told["id"] = json!(told["id"].as_u64().unwrap() + 100)),
        Fault::ResultAndError => told.iter_mut().for_each(|told| told["error"] = json!({"code": 1, "message": "and yet"})),
        _ => {}
    }
    // Nodes may answer in any order.
    told.reverse();
    let mut text = Value::Array(told).to_string();
    if fault == Fault::CutJson {
        text.truncate(text.len() / 2);
    }
    plain(200, &text)
}

fn item(world: &Mutex<World>, ask: &Value) -> Value {
    let mut world = world.lock().unwrap();
    let params = &ask["params"];
    let outcome = match ask["method"].as_str().unwrap() {
        "eth_chainId" if world.fault == Fault::WrongChain => Ok(json!("0x1")),
        "eth_chainId" => Ok(json!(format!("{CHAIN:#x}"))),
        "eth_getBlockByNumber" if world.fault == Fault::NoBlock => Ok(Value::Null),
        "eth_getBlockByNumber" if world.fault == Fault::FarAhead => Ok(json!({"number": "0x1000000000000000", "hash": hash(1)})),
        "eth_getBlockByNumber" => Ok(json!({"number": format!("{:#x}", world.head), "hash": hash(world.head)})),
        "eth_getCode" => Ok(json!(if world.multicall { "0x60" } else { "0x" })),
        "eth_getBalance" => Ok(json!(format!("{:#x}", 5_u64))),
        "eth_gasPrice" => Ok(json!(format!("{:#x}", 1_500_000_000_u64))),
        "eth_call" => call(&mut world, params),
        other => panic!("{other}"),
    };
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": ask["id"], "result": result}),
        Err((code, message)) => json!({"jsonrpc": "2.0", "id": ask["id"], "error": {"code": code, "message": message}}),
    }
}

pub fn hash(number: u64) -> String {
    format!("0x{number:064x}")
}

/// A JSON-RPC error.
type Refusal = (i64, &'static str);
const REVERTED: Refusal = (3, "execution reverted");
const OUT_OF_GAS: Refusal = (-32000, "out of gas");

fn call(world: &mut World, params: &Value) -> Result<Value, Refusal> {
    world.pins.push(params[1].clone());
    if params[1].is_object() && !world.knows_eip_1898 {
        return Err((-32602, "invalid params"));
    }
    match world.fault {
        Fault::RateLimitedItems => return Err((-32005, "limit exceeded")),
        Fault::InternalErrors => return Err((-32603, "internal error")),
        Fault::OutOfGas => return Err(OUT_OF_GAS),
        Fault::NotHex => return Ok(json!("zz")),
        _ => {}
    }
    let to: Address = params[0]["to"].as_str().unwrap().parse().unwrap();
    let input = hex::decode(&params[0]["data"].as_str().unwrap()[2..]).unwrap();
    // A node gives all it has when nothing is said.
    let gas = params[0]["gas"].as_str().map_or(50_000_000, |gas| u64::from_str_radix(&gas[2..], 16).unwrap());
    let output = if to == MULTICALL3 { aggregate(world, &input, gas)? } else { run(world, to, &input, gas)? };
    Ok(json!(format!("0x{}", hex::encode(output))))
}

fn aggregate(world: &World, input: &[u8], gas: u64) -> Result<Vec<u8>, Refusal> {
    assert!(world.multicall);
    if world.multicall_starves {
        return Err(OUT_OF_GAS);
    }
    let inner = abi::aggregated(input).unwrap();
    let outcomes = inner.iter().map(|call| match run(world, call.target, &call.input, gas) {
        Ok(output) => abi::Outcome { success: true, output },
        Err(_) => abi::Outcome { success: false, output: Vec::new() },
    });
    Ok(abi::aggregate_return(outcomes.collect()))
}

/// The contracts: one pass, whose token 7 the first holder of a balance owns, one that refuses everything, and bad ones.
fn run(world: &World, to: Address, input: &[u8], gas: u64) -> Result<Vec<u8>, Refusal> {
    let argument = |place: usize| -> [u8; 32] { input[4 + 32 * place..][..32].try_into().unwrap() };
    let word = match (to, hex::encode(&input[..4]).as_str()) {
        (REFUSING, _) => return Err(REVERTED),
        (INVALID, _) => return Err((-32603, "EVM error InvalidFEOpcode")),
        (LIMITED, _) => return Err(OUT_OF_GAS),
        // 2^16 words of memory.
        (GLUTTON, _) if gas < 8_585_216 => return Err(OUT_OF_GAS),
        (GLUTTON, _) => return Ok(vec![0; 2 * 1024 * 1024]),
        (PASS, "70a08231") => {
            let holder = abi::as_address(&argument(0)).unwrap();
            number(world.balances.get(&(PASS, holder)).copied().unwrap_or(0))
        }
        (PASS, "6352211e") if argument(0) == number(7) => {
            let owner = world.balances.iter().find(|(_, amount)| **amount > 0).map(|((_, holder), _)| *holder);
            let mut word = [0; 32];
            word[12..].copy_from_slice(owner.ok_or(REVERTED)?.as_bytes());
            word
        }
        (PASS, "6352211e") => return Err(REVERTED),
        (MULTICALL3, "4d2301cc") => number(5),
        _ => return Ok(Vec::new()),
    };
    Ok(match world.fault {
        Fault::ShortWords => word[..31].to_vec(),
        Fault::LongWords => [word.as_slice(), &[1]].concat(),
        Fault::EmptyWords => Vec::new(),
        _ => word.to_vec(),
    })
}

fn number(value: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&value.to_be_bytes());
    word
}
