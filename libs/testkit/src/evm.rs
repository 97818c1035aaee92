//! What tests do on a local chain: deploy, mint, transfer.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use ethers_core::{
    abi::{self, Token},
    types::{Address, U256},
    utils::id,
};
use serde_json::{Value, json};

use crate::{eventually, paths::repository};

/// A client of a development node whose accounts are unlocked.
#[derive(Debug, Clone)]
pub struct EvmNode {
    url: String,
    http: reqwest::Client,
}

impl EvmNode {
    /// A client of the node at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: reqwest::Client::new() }
    }

    /// One JSON-RPC call.
    ///
    /// # Errors
    /// When the node can't be reached or answers with an error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = self.http.post(&self.url).timeout(Duration::from_secs(10)).json(&body);
        let mut answer: Value = request.send().await?.json().await?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    /// Number of the newest block.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn block_number(&self) -> Result<u64> {
        let number = self.call("eth_blockNumber", json!([])).await?;
        let digits = number.as_str().and_then(|text| text.strip_prefix("0x")).context("a block number")?;
        Ok(u64::from_str_radix(digits, 16)?)
    }

    /// Sends a transaction from an unlocked account and waits for its receipt.
    ///
    /// # Errors
    /// When it is refused, reverts, or is not mined within 20 s.
    pub async fn transact(&self, from: Address, to: Option<Address>, data: &[u8]) -> Result<Value> {
        let mut transaction = json!({"from": address(from), "data": format!("0x{}", hex::encode(data)), "gas": "0x4c4b40"});
        if let Some(to) = to {
            transaction["to"] = address(to).into();
        }
        let hash = self.call("eth_sendTransaction", json!([transaction])).await?;
        let receipt = eventually("the transaction is mined", Duration::from_secs(20), || async {
            let receipt = self.call("eth_getTransactionReceipt", json!([hash])).await?;
            Ok((!receipt.is_null()).then_some(receipt))
        })
        .await?;
        if receipt["status"] != "0x1" {
            bail!("transaction {hash} was reverted");
        }
        Ok(receipt)
    }

    /// Deploys the demo's ERC-721; `minter` may mint.
    ///
    /// # Errors
    /// When the contract can't be read or deployed.
    pub async fn deploy_demo_pass(&self, minter: Address) -> Result<DemoPass> {
        let compiled = fs::read(repository().join("integration/contracts/DemoPass.json")).context("read DemoPass.json")?;
        let compiled: Value = serde_json::from_slice(&compiled)?;
        let bytecode = compiled["bytecode"].as_str().context("the contract's bytecode")?;
        let mut code = hex::decode(bytecode.trim_start_matches("0x"))?;
        code.extend(abi::encode(&[Token::String("Demo Pass".into()), Token::String("PASS".into())]));
        let receipt = self.transact(minter, None, &code).await?;
        let contract = receipt["contractAddress"].as_str().context("the contract's address")?.parse::<Address>()?;
        Ok(DemoPass { node: self.clone(), minter, contract })
    }
}

/// A deployed ERC-721 of the demo.
#[derive(Debug, Clone)]
pub struct DemoPass {
    node: EvmNode,
    minter: Address,
    contract: Address,
}

impl DemoPass {
    /// Address of the contract, 0x-prefixed and in lower case.
    #[must_use]
    pub fn address(&self) -> String {
        address(self.contract)
    }

    /// Mints the next pass to `to` and gives its number.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn mint(&self, to: Address) -> Result<U256> {
        let data = encoded_call("mint(address)", &[Token::Address(to)]);
        let receipt = self.node.transact(self.minter, Some(self.contract), &data).await?;
        // Topic 3 of Transfer(from, to, tokenId).
        let number = receipt["logs"][0]["topics"][3].as_str().ok_or_else(|| anyhow!("mint left no Transfer event"))?;
        Ok(U256::from_str_radix(number, 16)?)
    }

    /// Moves a pass; its holder must be an unlocked account.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn transfer(&self, from: Address, to: Address, pass: U256) -> Result<()> {
        let arguments = [Token::Address(from), Token::Address(to), Token::Uint(pass)];
        let data = encoded_call("transferFrom(address,address,uint256)", &arguments);
        self.node.transact(from, Some(self.contract), &data).await?;
        Ok(())
    }

    /// The gate that asks for one pass of this contract.
    #[must_use]
    pub fn gate(&self, chain_id: u64) -> Value {
        let leaf = json!({"erc721": {"chain": format!("eip155:{chain_id}"), "contract": self.address(), "min_balance": "1"}});
        json!({"all": {"rules": [leaf]}})
    }
}

fn encoded_call(signature: &str, arguments: &[Token]) -> Vec<u8> {
    let mut data = id(signature).to_vec();
    data.extend(abi::encode(arguments));
    data
}

fn address(address: Address) -> String {
    format!("0x{}", hex::encode(address.as_bytes()))
}
