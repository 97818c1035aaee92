//! Gates over gRPC, with a chain behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use streamgate_auth::Config;
use streamgate_proto::streamgate::{
    auth::v1 as pb,
    gate::v1::{Erc721, Rule, SignedIn, Verdict, Wallets, rule::Kind},
};
use support::{Service, Wallet, bearer, operator, reason};

const COLLECTION: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

/// A node on which the wallet with seed 1 holds one token of every collection.
async fn node() -> String {
    let answer = |Json(asks): Json<Vec<Value>>| async move { Json(asks.iter().map(one).collect::<Vec<_>>()) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    url
}

fn one(ask: &Value) -> Value {
    let result = match ask["method"].as_str().unwrap() {
        "eth_chainId" => json!("0x7a69"),
        "eth_getBlockByNumber" => json!({"number": "0x10", "hash": format!("0x{}", "1".repeat(64))}),
        "eth_getCode" => json!("0x"),
        _ => {
            let holder = Wallet::new(1).address().lower();
            let is_holder = ask["params"][0]["data"].as_str().unwrap().ends_with(&holder[2..]);
            json!(format!("0x{:064x}", u8::from(is_holder)))
        }
    };
    json!({"jsonrpc": "2.0", "id": ask["id"], "result": result})
}

fn nft(chain: &str) -> Erc721 {
    Erc721 { chain: chain.into(), contract: COLLECTION.into(), ..Default::default() }
}

fn rule(kind: Kind) -> Option<Rule> {
    Some(Rule { kind: Some(kind) })
}

async fn service() -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens on port 1.
    let chains = [(31337, node().await), (1, "http://127.0.0.1:1/secret".to_owned())];
    (Service::on(folder.path().to_owned(), Config::default(), &chains).await, folder)
}

/// Asks until the node has answered in the two seconds that it gets, which a busy machine may not do at once.
async fn once_read<T>(mut ask: impl AsyncFnMut() -> T, is_read: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let answer = ask().await;
        if is_read(&answer) || start.elapsed() > Duration::from_secs(60) {
            return answer;
        }
    }
}

async fn a_holder_is_told_yes_a_stranger_no_and_nobody_is_told_no_when_it_is_unknown() {
    let (service, _folder) = service().await;
    for (seed, holds) in [(1, true), (2, false)] {
        let token = service.sign_in(&Wallet::new(seed)).await.access_token;
        let own = pb::VerifyNftRequest { address: String::new(), nft: Some(nft("eip155:31337")) };
        let ask = async || service.client().verify_nft(bearer(own.clone(), &token)).await;
        let answer = once_read(ask, Result::is_ok).await.unwrap().into_inner();
        let decision = answer.decision.unwrap();
        assert_eq!(answer.holds, holds);
        assert_eq!(decision.blocks[0].number, 16);
        assert_eq!(decision.unmet.is_empty(), holds);

        let unreadable = pb::VerifyNftRequest { address: String::new(), nft: Some(nft("eip155:1")) };
        let unknown = service.client().verify_nft(bearer(unreadable, &token)).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::Unavailable);
        assert!(!unknown.message().contains("secret"), "{}", unknown.message());
        assert_eq!(reason::<()>(Err(unknown)), "ownership_unknown");
    }
    let anonymous = pb::VerifyNftRequest { address: COLLECTION.into(), nft: Some(nft("eip155:31337")) };
    assert_eq!(reason(service.client().verify_nft(anonymous).await), "credentials_missing");
}

async fn many_gates_are_answered_in_order() {
    let (service, _folder) = service().await;
    let holder = format!("eip155:1:{}", Wallet::new(1).address());
    let query = |gate: Option<Rule>, accounts: &[&String]| pb::GateQuery {
        gate,
        accounts: accounts.iter().map(|a| (*a).clone()).collect(),
    };
    let queries = vec![
        query(rule(Kind::Erc721(nft("eip155:31337"))), &[&holder]),
        // On a chain that was shut down after the gate was made.
        query(rule(Kind::Erc721(nft("eip155:80001"))), &[&holder]),
        query(rule(Kind::Erc721(nft("eip155:31337"))), &[]),
        query(rule(Kind::Erc721(nft("eip155:1"))), &[&holder]),
        query(rule(Kind::SignedIn(SignedIn {})), &[&holder]),
        query(rule(Kind::Wallets(Wallets { accounts: vec![format!("eip155:10:{COLLECTION}")] })), &[&holder]),
        query(rule(Kind::Erc721(nft("eip155:31337"))), &[&holder]),
        query(None, &[&holder]),
    ];
    let request = pb::EvaluateGatesRequest { queries };
    assert_eq!(reason(service.client().evaluate_gates(request.clone()).await), "credentials_missing");
    let ask = async || service.running.mesh().auth().evaluate_gates(request.clone()).await.unwrap().into_inner().decisions;
    let decisions = once_read(ask, |decisions| decisions[0].verdict() != Verdict::Unknown).await;
    let verdicts: Vec<Verdict> = decisions.iter().map(|decision| decision.verdict()).collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Granted,
            Verdict::Unknown,
            Verdict::Denied,
            Verdict::Unknown,
            Verdict::Granted,
            Verdict::Denied,
            Verdict::Granted,
            Verdict::Unknown
        ]
    );
    let detail = &decisions[1].result.as_ref().unwrap().detail;
    assert!(detail.starts_with("queries[1].gate.erc721.chain: "), "{detail}");
}

async fn a_gate_is_explained_to_creators_with_its_whole_tree() {
    let (service, _folder) = service().await;
    let request = pb::ExplainGateRequest {
        gate: rule(Kind::Not(Box::new(rule(Kind::Erc721(nft("eip155:31337"))).unwrap()))),
        accounts: vec![Wallet::new(2).address().to_string()],
    };
    let viewer = service.sign_in(&Wallet::new(1)).await.access_token;
    assert_eq!(reason(service.client().explain_gate(bearer(request.clone(), &viewer)).await), "role_too_small");
    let operator = service.sign_in(&operator()).await.access_token;
    let ask = async || {
        let answer = service.client().explain_gate(bearer(request.clone(), &operator)).await.unwrap();
        answer.into_inner().decision.unwrap()
    };
    let decision = once_read(ask, |decision| decision.verdict() != Verdict::Unknown).await;
    assert_eq!(decision.verdict(), Verdict::Granted);
    let leaf = &decision.result.unwrap().rules[0];
    assert_eq!(leaf.verdict(), Verdict::Denied);
    assert!(leaf.detail.ends_with("holds 0"), "{}", leaf.detail);
}

async fn the_chains_say_which_of_them_can_be_read() {
    let (service, _folder) = service().await;
    let chains = service.client().list_chains(pb::ListChainsRequest {}).await.unwrap().into_inner().chains;
    let configured: Vec<&str> = chains.iter().filter(|chain| chain.configured).map(|chain| chain.chain.as_str()).collect();
    assert_eq!(configured, ["eip155:1", "eip155:31337"]);
    assert!(chains.iter().any(|chain| chain.chain == "eip155:80001" && chain.retired));
}

streamgate_testkit::on_both_engines! {
    support:
    a_holder_is_told_yes_a_stranger_no_and_nobody_is_told_no_when_it_is_unknown,
    many_gates_are_answered_in_order,
    a_gate_is_explained_to_creators_with_its_whole_tree,
    the_chains_say_which_of_them_can_be_read,
}
