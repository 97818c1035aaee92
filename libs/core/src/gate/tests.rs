use proptest::prelude::*;

use super::*;
use pb::rule::Kind;

const CONTRACT: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

fn wire(kind: Kind) -> pb::Rule {
    pb::Rule { kind: Some(kind) }
}

fn erc721(min: &str, token: &str) -> pb::Rule {
    wire(Kind::Erc721(pb::Erc721 {
        chain: "eip155:1".into(),
        contract: CONTRACT.into(),
        min_balance: min.into(),
        token_id: token.into(),
    }))
}

fn signed_in() -> pb::Rule {
    wire(Kind::SignedIn(pb::SignedIn {}))
}

fn everyone() -> pb::Rule {
    wire(Kind::Everyone(pb::Everyone {}))
}

fn all(rules: Vec<pb::Rule>) -> pb::Rule {
    wire(Kind::All(pb::Group { rules }))
}

fn any(rules: Vec<pb::Rule>) -> pb::Rule {
    wire(Kind::Any(pb::Group { rules }))
}

fn gate(rule: pb::Rule) -> Gate {
    Gate::try_from(rule).unwrap()
}

fn faults(rule: pb::Rule) -> Vec<(String, String)> {
    Gate::try_from(rule).unwrap_err().into_iter().map(|fault| (fault.field, fault.description)).collect()
}

#[test]
fn the_hash_does_not_depend_on_order_case_or_spelled_out_defaults() {
    let one = gate(all(vec![erc721("", ""), signed_in()]));
    let lower = wire(Kind::Erc721(pb::Erc721 {
        chain: "eip155:1".into(),
        contract: CONTRACT.to_lowercase(),
        min_balance: "1".into(),
        token_id: String::new(),
    }));
    let other = gate(all(vec![signed_in(), lower]));
    assert_eq!(one.hash(), other.hash());
    assert_eq!(one.hash().len(), 64);
    assert_ne!(one.hash(), gate(any(vec![erc721("", ""), signed_in()])).hash());
    assert_ne!(gate(erc721("2", "")).hash(), gate(erc721("", "2")).hash());
}

#[test]
fn a_rule_without_a_kind_is_no_gate() {
    assert_eq!(Gate::from_wire(None), Ok(None));
    assert_eq!(Gate::from_wire(Some(pb::Rule { kind: None })), Ok(None));
    assert_eq!(faults(pb::Rule { kind: None })[0].0, "gate");
    assert_eq!(faults(all(vec![pb::Rule { kind: None }]))[0].0, "gate.all.rules[0]");
}

#[test]
fn every_fault_is_named_by_its_path() {
    let bad = wire(Kind::Erc721(pb::Erc721 {
        chain: "eip155:80001".into(),
        contract: "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".into(),
        min_balance: "0".into(),
        token_id: "-1".into(),
    }));
    let found = faults(all(vec![signed_in(), bad]));
    let fields: Vec<&str> = found.iter().map(|(field, _)| field.trim_start_matches("gate.all.rules[1].erc721.")).collect();
    assert_eq!(fields, ["chain", "contract", "min_balance", "token_id"]);
    assert!(found[0].1.contains("shut down"), "{}", found[0].1);
    assert!(found[1].1.contains("EIP-55"), "{}", found[1].1);
}

#[test]
fn very_many_faults_are_not_all_collected() {
    let many = any(vec![any(vec![pb::Rule { kind: None }; 32]); 32]);
    assert_eq!(faults(all(vec![many])).len(), 512);
}

#[test]
fn limits_of_depth_and_leaves_hold() {
    let deep = |levels: usize| (1..levels).fold(signed_in(), |rule, _| wire(Kind::Not(Box::new(rule))));
    assert!(Gate::try_from(deep(5)).is_ok());
    assert!(faults(deep(6))[0].1.contains("nested too deep"));
    assert!(Gate::try_from(all(vec![signed_in(); 32])).is_ok());
    assert!(Gate::try_from(all(vec![signed_in(); 33])).is_err());
    assert!(faults(all(vec![any(vec![signed_in(); 17]), any(vec![signed_in(); 16])]))[0].1.contains("33 leaves"));
    assert_eq!(faults(all(vec![]))[0].0, "gate.all.rules");
}

#[test]
fn at_least_needs_a_reachable_number() {
    for k in [0, 3] {
        let found = faults(wire(Kind::AtLeast(pb::AtLeast { k, rules: vec![signed_in(), everyone()] })));
        assert_eq!(found[0].0, "gate.at_least.k");
    }
    assert!(Gate::try_from(wire(Kind::AtLeast(pb::AtLeast { k: 2, rules: vec![signed_in(), everyone()] }))).is_ok());
}

#[test]
fn windows_and_wallets_are_checked() {
    let window = |from: Option<i64>, until: Option<i64>| {
        wire(Kind::TimeWindow(pb::TimeWindow {
            from: from.map(crate::time::to_timestamp),
            until: until.map(crate::time::to_timestamp),
        }))
    };
    assert!(Gate::try_from(window(Some(0), Some(1))).is_ok());
    assert!(Gate::try_from(window(None, None)).is_err());
    assert!(Gate::try_from(window(Some(1), Some(1))).is_err());
    let wallets = |accounts: Vec<String>| wire(Kind::Wallets(pb::Wallets { accounts }));
    assert!(Gate::try_from(wallets(vec![format!("eip155:1:{CONTRACT}")])).is_ok());
    assert_eq!(faults(wallets(vec![CONTRACT.into()]))[0].0, "gate.wallets.accounts[0]");
    assert!(Gate::try_from(wallets(vec![])).is_err());
    assert!(Gate::try_from(wallets(vec![format!("eip155:1:{CONTRACT}"); 257])).is_err());
    assert!(Gate::try_from(wallets(vec![format!("eip155:1:0x{}", "0".repeat(40))])).is_err());
}

#[test]
fn only_a_gate_that_anybody_meets_is_open() {
    assert!(gate(everyone()).is_open());
    assert!(gate(any(vec![everyone(), signed_in()])).is_open());
    assert!(!gate(all(vec![everyone(), signed_in()])).is_open());
    assert!(!gate(signed_in()).is_open());
    let not_signed_in = wire(Kind::Not(Box::new(signed_in())));
    assert!(!gate(not_signed_in).is_open());
}

#[test]
fn requirements_read_as_plain_words() {
    let half = wire(Kind::Native(pb::Native { chain: "eip155:137".into(), min_balance: "500000000000000000".into() }));
    let rules = gate(all(vec![erc721("", ""), half]));
    assert_eq!(
        rules.requirements(),
        [format!("hold an NFT of the collection {CONTRACT} on Ethereum"), "hold at least 0.5 POL on Polygon".to_owned()]
    );
}

#[test]
fn what_is_not_known_never_opens() {
    use Verdict::{Denied, Granted, Unknown};
    assert_eq!(Unknown.negate(), Unknown);
    assert_eq!(Verdict::any([Granted, Unknown]), Granted);
    assert_eq!(Verdict::any([Denied, Unknown]), Unknown);
    assert_eq!(Verdict::all([Denied, Unknown]), Denied);
    assert_eq!(Verdict::all([Granted, Unknown]), Unknown);
    assert_eq!(Verdict::at_least(2, [Granted, Unknown, Denied]), Unknown);
    assert_eq!(Verdict::at_least(2, [Granted, Granted, Unknown]), Granted);
    assert_eq!(Verdict::at_least(2, [Denied, Denied, Unknown]), Denied);
}

fn arb_rule() -> impl Strategy<Value = pb::Rule> {
    let leaf = prop_oneof![
        Just(signed_in()),
        Just(everyone()),
        (1_u64..100).prop_map(|min| erc721(&min.to_string(), "")),
        (0_u64..100).prop_map(|token| erc721("", &token.to_string())),
    ];
    leaf.prop_recursive(4, 32, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(all),
            prop::collection::vec(inner.clone(), 1..3).prop_map(any),
            inner.prop_map(|rule| wire(Kind::Not(Box::new(rule)))),
        ]
    })
}

proptest! {
    #[test]
    fn a_gate_survives_the_wire(rule in arb_rule()) {
        if let Ok(gate) = Gate::try_from(rule) {
            let again = Gate::try_from(pb::Rule::from(&gate)).unwrap();
            prop_assert_eq!(again.hash(), gate.hash());
            prop_assert_eq!(again, gate);
        }
    }

    /// If a rule is granted with some leaves unknown, it is granted whatever those turn out to be.
    #[test]
    fn a_grant_never_rests_on_an_unknown_leaf(rule in arb_rule(), known in prop::collection::vec(0_u8..3, 32), later: [bool; 32]) {
        if let Ok(gate) = Gate::try_from(rule) {
            let mut place = 0;
            let first = gate.root().evaluate(&mut |_| {
                place += 1;
                [Verdict::Granted, Verdict::Denied, Verdict::Unknown][known[place - 1] as usize]
            });
            let mut place = 0;
            let second = gate.root().evaluate(&mut |_| {
                place += 1;
                match known[place - 1] {
                    0 => Verdict::Granted,
                    1 => Verdict::Denied,
                    _ if later[place - 1] => Verdict::Granted,
                    _ => Verdict::Denied,
                }
            });
            prop_assert!(first == Verdict::Unknown || first == second);
        }
    }
}
