//! Gates answered from a node that behaves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::json;
use streamgate_chain::{Decision, Evaluator, Query, rpc::Limits};
use streamgate_core::{
    evm::{Address, ChainId, Uint256, Wallet},
    gate::{Gate, Leaf, Verdict},
};
use streamgate_proto::streamgate::gate::v1::{Group, Rule, rule::Kind};
use support::{CHAIN, HOLDER, NOWHERE, Node, PASS, REFUSING, SECRET, STRANGER, chains, hash};

fn pass(min: u64) -> Gate {
    Gate::of_leaf(Leaf::Erc721Balance { chain: ChainId::any(CHAIN), contract: PASS, min: Uint256::from_u64(min) })
}

fn token(contract: Address, token: u64) -> Gate {
    Gate::of_leaf(Leaf::Erc721Token { chain: ChainId::any(CHAIN), contract, token: Uint256::from_u64(token) })
}

fn balance_at(contract: Address) -> Gate {
    Gate::of_leaf(Leaf::Erc20 { chain: ChainId::any(CHAIN), contract, min: Uint256::ONE })
}

fn not(gate: &Gate) -> Gate {
    Gate::try_from(Rule { kind: Some(Kind::Not(Box::new(gate.into()))) }).unwrap()
}

fn all(gates: &[Gate]) -> Gate {
    let rules = gates.iter().map(Rule::from).collect();
    Gate::try_from(Rule { kind: Some(Kind::All(Group { rules })) }).unwrap()
}

/// Signed in on Ethereum, which holds for every EVM chain.
fn wallet(address: Address) -> Vec<Wallet> {
    vec![Wallet { chain: ChainId::ETHEREUM, address }]
}

fn evaluator(nodes: &[&Node]) -> Evaluator {
    // Far more than a busy machine takes: no test here is about time.
    let limits = Limits { per_try: Duration::from_secs(60), total: Duration::from_secs(120), ..Limits::default() };
    Evaluator::new(chains(nodes, limits))
}

async fn ask(evaluator: &Evaluator, gate: Gate, address: Address) -> Decision {
    evaluator.evaluate(Query { gate, wallets: wallet(address) }).await
}

#[tokio::test]
async fn a_holder_is_granted_and_a_stranger_denied_with_what_is_missing() {
    let node = Node::start().await;
    let evaluator = evaluator(&[&node]);
    let granted = ask(&evaluator, pass(1), HOLDER).await;
    assert_eq!((granted.verdict, granted.unmet.len()), (Verdict::Granted, 0));
    assert_eq!(granted.blocks[0].number, 1000);

    let denied = ask(&evaluator, pass(1), STRANGER).await;
    assert_eq!(denied.verdict, Verdict::Denied);
    assert_eq!(denied.unmet, pass(1).requirements());
    assert!(denied.result.detail.ends_with("holds 0"), "{}", denied.result.detail);
    let anonymous = evaluator.evaluate(Query { gate: pass(1), wallets: Vec::new() }).await;
    assert_eq!(anonymous.verdict, Verdict::Denied);
}

#[tokio::test]
async fn whoever_is_kept_out_is_not_let_in_by_signing_out() {
    let node = Node::start().await;
    let evaluator = evaluator(&[&node]);
    let banned = Gate::of_leaf(Leaf::Wallets(wallet(HOLDER)));
    for gate in [not(&pass(1)), not(&token(PASS, 7)), not(&banned), all(&[not(&banned), Gate::of_leaf(Leaf::Everyone)])] {
        assert_eq!(ask(&evaluator, gate.clone(), HOLDER).await.verdict, Verdict::Denied);
        assert_eq!(ask(&evaluator, gate.clone(), STRANGER).await.verdict, Verdict::Granted);
        let anonymous = evaluator.evaluate(Query { gate: gate.clone(), wallets: Vec::new() }).await;
        assert_eq!((anonymous.verdict, anonymous.result.verdict), (Verdict::Denied, Verdict::Denied), "{gate:?}");
        assert!(!anonymous.unmet.is_empty());
    }
    // What a gate grants whatever a wallet holds, it grants to those without one.
    let either = Rule { kind: Some(Kind::Any(Group { rules: vec![(&not(&banned)).into(), (&banned).into()] })) };
    let open =
        Rule { kind: Some(Kind::Any(Group { rules: vec![(&not(&banned)).into(), (&Gate::of_leaf(Leaf::Everyone)).into()] })) };
    for (rule, right) in [(either, Verdict::Denied), (open, Verdict::Granted)] {
        let gate = Gate::try_from(rule).unwrap();
        assert_eq!(evaluator.evaluate(Query { gate, wallets: Vec::new() }).await.verdict, right);
    }
}

#[tokio::test]
async fn owning_one_very_token_is_not_owning_any_other() {
    let node = Node::start().await;
    let evaluator = evaluator(&[&node]);
    assert_eq!(ask(&evaluator, token(PASS, 7), HOLDER).await.verdict, Verdict::Granted);
    assert_eq!(ask(&evaluator, token(PASS, 7), STRANGER).await.verdict, Verdict::Denied);
    assert_eq!(ask(&evaluator, token(PASS, 8), HOLDER).await.verdict, Verdict::Denied, "ownerOf reverts: nobody owns it");
}

#[tokio::test]
async fn what_a_contract_does_not_tell_is_unknown_and_so_is_its_opposite() {
    let node = Node::start().await;
    for multicall in [true, false] {
        node.set(|world| world.multicall = multicall);
        let evaluator = evaluator(&[&node]);
        for gate in [balance_at(NOWHERE), token(NOWHERE, 1), balance_at(REFUSING)] {
            assert_eq!(ask(&evaluator, gate.clone(), HOLDER).await.verdict, Verdict::Unknown);
            assert_eq!(ask(&evaluator, not(&gate), HOLDER).await.verdict, Verdict::Unknown);
            // One good leaf beside it is still answered.
            let both = all(&[pass(1), gate]);
            assert_eq!(ask(&evaluator, both.clone(), STRANGER).await.verdict, Verdict::Denied);
            assert_eq!(ask(&evaluator, both, HOLDER).await.verdict, Verdict::Unknown);
        }
    }
    let elsewhere = Gate::of_leaf(Leaf::Native { chain: ChainId::any(5555), min: Uint256::ONE });
    let decision = ask(&evaluator(&[&node]), elsewhere, HOLDER).await;
    assert_eq!((decision.verdict, decision.result.detail.contains("no endpoint")), (Verdict::Unknown, true));
}

#[tokio::test]
async fn a_thousand_viewers_cost_two_requests_and_see_one_block() {
    let node = Node::start().await;
    let viewers = (0..1000_u32).map(|number| {
        let mut bytes = [0x33; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Query { gate: pass(1), wallets: wallet(Address::new(bytes)) }
    });
    let queries: Vec<Query> = viewers.chain([Query { gate: pass(1), wallets: wallet(HOLDER) }]).collect();
    let decisions = evaluator(&[&node]).evaluate_many(queries.clone()).await;
    assert_eq!(node.requests(), 2);
    assert_eq!(decisions.iter().filter(|decision| decision.verdict == Verdict::Granted).count(), 1);
    assert!(decisions.iter().all(|decision| decision.blocks == decisions[0].blocks));

    node.set(|world| (world.multicall, world.requests) = (false, 0));
    evaluator(&[&node]).evaluate_many(queries).await;
    assert_eq!(node.requests(), 12, "the head, and 1001 calls a hundred at a time");
    let world = node.world.lock().unwrap();
    assert!(world.pins.iter().all(|pin| *pin == json!({"blockHash": hash(1000)})));
}

#[tokio::test]
async fn a_node_without_eip_1898_is_asked_by_number() {
    let node = Node::start().await;
    node.set(|world| world.knows_eip_1898 = false);
    let evaluator = evaluator(&[&node]);
    assert_eq!(ask(&evaluator, pass(1), HOLDER).await.verdict, Verdict::Granted);
    assert_eq!(node.world.lock().unwrap().pins.last(), Some(&json!("0x3e8")));
}

#[tokio::test]
async fn an_aggregate_that_starves_is_read_one_by_one() {
    let node = Node::start().await;
    node.set(|world| world.multicall_starves = true);
    let evaluator = evaluator(&[&node]);
    let gate = all(&[pass(1), token(PASS, 7)]);
    assert_eq!(ask(&evaluator, gate, HOLDER).await.verdict, Verdict::Granted);
}

#[tokio::test]
async fn viewers_who_come_together_share_one_read_and_a_grant_is_remembered() {
    let node = Node::start().await;
    let evaluator = Arc::new(evaluator(&[&node]));
    let decisions = join_all((0..50).map(|_| ask(&evaluator, pass(1), HOLDER))).await;
    assert!(decisions.iter().all(|decision| decision.verdict == Verdict::Granted));
    assert_eq!(node.requests(), 2);
}

#[tokio::test]
async fn a_grant_is_never_remembered_for_a_higher_bar() {
    let node = Node::start().await;
    let evaluator = evaluator(&[&node]);
    assert_eq!(ask(&evaluator, pass(1), HOLDER).await.verdict, Verdict::Granted);
    assert_eq!(ask(&evaluator, pass(2), HOLDER).await.verdict, Verdict::Denied);
}

#[tokio::test]
async fn an_unknown_answer_is_asked_again_at_once() {
    let node = Node::start().await;
    node.set(|world| world.fault = support::Fault::RateLimitedItems);
    let evaluator = evaluator(&[&node]);
    assert_eq!(ask(&evaluator, pass(1), HOLDER).await.verdict, Verdict::Unknown);
    node.set(|world| world.fault = support::Fault::None);
    assert_eq!(ask(&evaluator, pass(1), HOLDER).await.verdict, Verdict::Granted);
}

#[tokio::test]
async fn an_endpoint_that_falls_far_behind_is_not_believed() {
    let node = Node::start().await;
    let evaluator = evaluator(&[&node]);
    assert_eq!(ask(&evaluator, pass(1), STRANGER).await.verdict, Verdict::Denied);
    // It now answers from a past in which somebody else held the pass.
    let other = Address::new([0x44; 20]);
    node.set(|world| {
        world.head = 900;
        world.balances.insert((PASS, other), 1);
    });
    let decision = ask(&evaluator, pass(1), other).await;
    assert_eq!(decision.verdict, Verdict::Unknown);
    assert!(!format!("{decision:?} {evaluator:?}").contains(SECRET));
}
