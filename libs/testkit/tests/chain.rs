//! The local chain that other tests stand on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Command;

use serde_json::json;
use streamgate_testkit::{Anvil, Wallet, repository};

#[tokio::test]
async fn a_minted_pass_belongs_to_its_holder_until_it_is_transferred() {
    let anvil = Anvil::start().await.unwrap();
    let (minter, holder, other) = (Wallet::dev(0).unwrap(), Wallet::dev(1).unwrap(), Wallet::dev(2).unwrap());
    let pass = anvil.node().deploy_demo_pass(minter.address()).await.unwrap();

    let number = pass.mint(holder.address()).await.unwrap();
    assert_eq!(number, 1.into());
    pass.transfer(holder.address(), other.address(), number).await.unwrap();
    pass.transfer(holder.address(), other.address(), number).await.unwrap_err();

    let code = anvil.node().call("eth_getCode", json!([pass.address(), "latest"])).await.unwrap();
    assert!(code.as_str().unwrap().len() > 100, "no contract at {}", pass.address());
}

#[test]
fn the_checked_in_contract_is_what_its_source_compiles_to() {
    let root = repository();
    if !root.join("node_modules/solc").exists() {
        eprintln!("skipped: the compiler is not installed (npm ci)");
        return;
    }
    let check = Command::new("node").args(["integration/contracts/compile.mjs", "--check"]).current_dir(root).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
