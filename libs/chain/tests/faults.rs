//! What faults of endpoints do to the answers of gates: they may make them unknown, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use streamgate_chain::{Evaluator, Query, rpc::Limits};
use streamgate_core::{
    evm::{Address, ChainId, Uint256, Wallet},
    gate::{Gate, Verdict},
};
use streamgate_proto::streamgate::gate::v1::{AtLeast, Erc20, Erc721, Group, Rule, rule::Kind};
use support::{
    CHAIN, FAULTS, Fault, GLUTTON, HOLDER, HUGE, INVALID, LIMITED, NOWHERE, Node, PASS, SECRET, SLOW, STRANGER, chains,
};

/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn rule(kind: Kind) -> Rule {
    Rule { kind: Some(kind) }
}

fn pass(token_id: &str) -> Rule {
    rule(Kind::Erc721(Erc721 {
        chain: format!("eip155:{CHAIN}"),
        contract: PASS.to_string(),
        token_id: token_id.to_owned(),
        min_balance: String::new(),
    }))
}

fn balance_at(contract: Address) -> Rule {
    rule(Kind::Erc20(Erc20 { chain: format!("eip155:{CHAIN}"), contract: contract.to_string(), min_balance: "1".to_owned() }))
}

fn nowhere() -> Rule {
    balance_at(NOWHERE)
}

/// Gates of every kind of node, also such that are granted by not holding something.
fn gates() -> Vec<Gate> {
    let not = |inner: Rule| rule(Kind::Not(Box::new(inner)));
    let rules = [
        pass(""),
        pass("7"),
        not(pass("")),
        not(pass("7")),
        rule(Kind::All(Group { rules: vec![pass(""), pass("7")] })),
        rule(Kind::Any(Group { rules: vec![not(pass("7")), nowhere()] })),
        rule(Kind::AtLeast(AtLeast { k: 2, rules: vec![pass(""), not(pass("8")), nowhere()] })),
        not(nowhere()),
    ];
    rules.map(|rule| Gate::try_from(rule).unwrap()).into()
}

fn limits(fault: Fault) -> Limits {
    let per_try = if fault.hangs() { Duration::from_millis(300) } else { PATIENCE };
    Limits { per_try, total: PATIENCE * 2, ..Limits::default() }
}

/// All gates for one viewer, asked together of fresh endpoints.
async fn verdicts(nodes: &[&Node], fault: Fault, viewer: Address) -> Vec<Verdict> {
    let evaluator = Evaluator::new(chains(nodes, limits(fault)));
    let wallets = vec![Wallet { chain: ChainId::ETHEREUM, address: viewer }];
    let queries = gates().into_iter().map(|gate| Query { gate, wallets: wallets.clone() }).collect();
    let decisions = evaluator.evaluate_many(queries).await;
    assert!(!format!("{decisions:?}").contains(SECRET), "{fault:?} shows the key of an endpoint");
    decisions.into_iter().map(|decision| decision.verdict).collect()
}

/// The same, again and again while an honest endpoint was too slow for the short time that a hanging one gets.
async fn settled(nodes: &[&Node], fault: Fault, viewer: Address, truth: &[Verdict]) -> Vec<Verdict> {
    let start = Instant::now();
    loop {
        let found = verdicts(nodes, fault, viewer).await;
        if !fault.hangs() || found == truth || start.elapsed() > PATIENCE {
            return found;
        }
        let may_be = |(found, right): (&Verdict, &Verdict)| found == right || *found == Verdict::Unknown;
        assert!(found.iter().zip(truth).all(may_be), "{found:?} for {truth:?}");
    }
}

#[tokio::test]
async fn no_fault_of_an_endpoint_opens_a_gate() {
    let (honest, faulty) = (Node::start().await, Node::start().await);
    for viewer in [HOLDER, STRANGER] {
        let truth = verdicts(&[&honest], Fault::None, viewer).await;
        for multicall in [true, false] {
            faulty.set(|world| world.multicall = multicall);
            for fault in FAULTS {
                faulty.set(|world| world.fault = fault);
                let alone = verdicts(&[&faulty], fault, viewer).await;
                for (place, (found, right)) in alone.iter().zip(&truth).enumerate() {
                    assert!(found == right || *found == Verdict::Unknown, "{fault:?}, gate {place}: {found:?} for {right:?}");
                }
                assert_eq!(
                    settled(&[&faulty, &honest], fault, viewer, &truth).await,
                    truth,
                    "{fault:?} before an honest endpoint"
                );
                assert_eq!(
                    settled(&[&honest, &faulty], fault, viewer, &truth).await,
                    truth,
                    "{fault:?} after an honest endpoint"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_dead_endpoint_rests_and_the_other_goes_on() {
    let (dead, good) = (Node::start().await, Node::start().await);
    dead.set(|world| world.fault = Fault::Status500);
    let evaluator = Evaluator::new(chains(&[&dead, &good], limits(Fault::None)));
    for number in 0..20_u64 {
        let min = Uint256::from_u64(number + 2);
        let leaf = streamgate_core::gate::Leaf::Erc721Balance { chain: ChainId::any(CHAIN), contract: PASS, min };
        let wallets = vec![Wallet { chain: ChainId::ETHEREUM, address: Address::new([0x50 + number as u8; 20]) }];
        let decision = evaluator.evaluate(Query { gate: Gate::of_leaf(leaf), wallets }).await;
        assert_eq!(decision.verdict, Verdict::Denied);
    }
    assert!(dead.requests() <= 3, "the dead endpoint was asked {} times", dead.requests());
}

#[tokio::test]
async fn an_endpoint_that_answers_heads_and_no_call_is_soon_left_out() {
    for fault in [Fault::InternalErrors, Fault::HangsOnCalls] {
        let (faulty, good) = (Node::start().await, Node::start().await);
        faulty.set(|world| world.fault = fault);
        let limits = Limits { per_try: Duration::from_secs(2), total: PATIENCE, ..Limits::default() };
        let evaluator = Evaluator::new(chains(&[&faulty, &good], limits));
        let start = Instant::now();
        let (mut reads_without_it, mut number) = (0, 0_u64);
        while reads_without_it < 5 {
            assert!(start.elapsed() < PATIENCE, "{fault:?}: asked {} times", faulty.requests());
            let (before, mut address) = (faulty.requests(), [0x51; 20]);
            number += 1;
            address[..8].copy_from_slice(&number.to_be_bytes());
            // The good endpoint leaves a doubt each time, which another might clear up.
            let found = beside(&evaluator, NOWHERE, vec![Wallet { chain: ChainId::ETHEREUM, address: Address::new(address) }]);
            let is_right = found.await == ONLY_THE_BAD_ONE;
            reads_without_it = if is_right && faulty.requests() == before { reads_without_it + 1 } else { 0 };
        }
    }
}

#[tokio::test]
async fn a_gate_on_a_bad_contract_does_not_rest_the_endpoint_for_others() {
    let node = Node::start().await;
    node.set(|world| world.fault = Fault::LongWords);
    let evaluator = Evaluator::new(chains(&[&node], limits(Fault::None)));
    let query = || Query { gate: gates().swap_remove(0), wallets: vec![Wallet { chain: ChainId::ETHEREUM, address: HOLDER }] };
    for _ in 0..10 {
        assert_eq!(evaluator.evaluate(query()).await.verdict, Verdict::Unknown);
    }
    node.set(|world| world.fault = Fault::None);
    assert_eq!(evaluator.evaluate(query()).await.verdict, Verdict::Granted);
}

/// A viewer whom nobody has asked about, so that everything is read.
fn viewer(number: u8) -> Vec<Wallet> {
    vec![Wallet { chain: ChainId::ETHEREUM, address: Address::new([number; 20]) }]
}

/// A gate on a bad contract, and a creator's and another's on a good one, asked together.
async fn beside(evaluator: &Evaluator, bad: Address, wallets: Vec<Wallet>) -> Vec<Verdict> {
    let rules = [balance_at(bad), pass(""), rule(Kind::Not(Box::new(pass(""))))];
    let query = |rule| Query { gate: Gate::try_from(rule).unwrap(), wallets: wallets.clone() };
    let decisions = evaluator.evaluate_many(rules.map(query).into()).await;
    decisions.into_iter().map(|decision| decision.verdict).collect()
}

const ONLY_THE_BAD_ONE: [Verdict; 3] = [Verdict::Unknown, Verdict::Denied, Verdict::Granted];

#[tokio::test]
async fn a_contract_that_answers_megabytes_or_fails_spoils_its_own_gate_and_no_other() {
    for multicall in [true, false] {
        for bad in [HUGE, GLUTTON, INVALID] {
            let node = Node::start().await;
            node.set(|world| world.multicall = multicall);
            let evaluator = Evaluator::new(chains(&[&node], limits(Fault::None)));
            for number in 0x60..0x6a {
                let found = beside(&evaluator, bad, viewer(number)).await;
                assert_eq!(found, ONLY_THE_BAD_ONE, "{bad} {multicall} {number}");
            }
            assert!(node.requests() <= 10 * 5, "{} requests", node.requests());
            let alone = evaluator.evaluate(Query { gate: Gate::try_from(balance_at(bad)).unwrap(), wallets: viewer(0x6a) });
            assert_eq!(alone.await.verdict, Verdict::Unknown);
            let holder = vec![Wallet { chain: ChainId::ETHEREUM, address: HOLDER }];
            let good = evaluator.evaluate(Query { gate: gates().swap_remove(0), wallets: holder });
            assert_eq!(good.await.verdict, Verdict::Granted);
        }
    }
}

#[tokio::test]
async fn what_was_read_before_a_fault_is_kept() {
    let node = Node::start().await;
    let evaluator = Evaluator::new(chains(&[&node], limits(Fault::None)));
    assert_eq!(beside(&evaluator, LIMITED, viewer(0x6b)).await, ONLY_THE_BAD_ONE);
}

#[tokio::test]
async fn a_spoilt_request_is_not_followed_by_any_number_of_others() {
    let node = Node::start().await;
    node.set(|world| world.multicall = false);
    let limits = Limits { calls_per_request: 300, ..limits(Fault::None) };
    let evaluator = Evaluator::new(chains(&[&node], limits));
    let contracts = (1..=150).map(|number| Address::new([number; 20])).chain([HUGE]);
    let query = |contract| Query { gate: Gate::try_from(balance_at(contract)).unwrap(), wallets: viewer(0x6c) };
    let decisions = evaluator.evaluate_many(contracts.map(query).collect()).await;
    assert!(decisions.iter().all(|decision| decision.verdict == Verdict::Unknown));
    assert_eq!(node.requests(), 102, "the head, all together, and a hundred apart");
}

#[tokio::test]
async fn a_contract_that_is_never_done_spoils_its_own_gate_and_no_other() {
    let node = Node::start().await;
    let limits = Limits { per_try: Duration::from_secs(2), total: Duration::from_secs(20), ..Limits::default() };
    let evaluator = Evaluator::new(chains(&[&node], limits));
    let start = Instant::now();
    // A busy machine may need several tries; without reading contracts apart, no number of them would do.
    while beside(&evaluator, SLOW, viewer(0x70)).await != ONLY_THE_BAD_ONE {
        assert!(start.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_far_ahead_does_not_switch_off_the_others() {
    let (ahead, honest) = (Node::start().await, Node::start().await);
    ahead.set(|world| world.fault = Fault::FarAhead);
    let evaluator = Evaluator::new(chains(&[&ahead, &honest], limits(Fault::None)));
    let verdict =
        async |number| evaluator.evaluate(Query { gate: gates().swap_remove(0), wallets: viewer(number) }).await.verdict;
    assert_eq!(verdict(0x80).await, Verdict::Denied);
    ahead.set(|world| world.fault = Fault::Status500);
    for number in 0x81..0x8a {
        assert_eq!(verdict(number).await, Verdict::Denied);
    }
}

#[tokio::test]
async fn the_gas_price_comes_from_an_endpoint_that_is_well_and_serves_the_chain() {
    let (faulty, good) = (Node::start().await, Node::start().await);
    for fault in [Fault::Status500, Fault::WrongChain, Fault::DropsEverything] {
        faulty.set(|world| world.fault = fault);
        let price = async |nodes: &[&Node]| {
            let chains = chains(nodes, limits(fault));
            chains.reader(ChainId::any(CHAIN)).unwrap().gas_price().await
        };
        assert_eq!(price(&[&faulty, &good]).await, Ok(1_500_000_000), "{fault:?}");
        let refused = price(&[&faulty]).await.unwrap_err().to_string();
        assert!(!refused.contains(SECRET), "{refused}");
    }
}
