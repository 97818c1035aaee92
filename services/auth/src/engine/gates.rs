//! Gates, answered.

use streamgate_chain::{Decision, Query, rpc::ChainStatus};
use streamgate_core::{Caller, evm::Wallet, gate::Verdict};

use super::Engine;
use crate::{Error, command::NftQuery};

impl Engine {
    /// The answers of many gates, in order.
    pub async fn evaluate(&self, queries: Vec<Query>) -> Vec<Decision> {
        let decisions = self.evaluator.evaluate_many(queries).await;
        for decision in &decisions {
            self.metrics.decided(decision.verdict);
        }
        decisions
    }

    /// The answer of one gate, with the whole tree behind it.
    pub async fn explain(&self, query: Query) -> Decision {
        let decision = self.evaluator.evaluate(query).await;
        self.metrics.decided(decision.verdict);
        decision
    }

    /// Whether a wallet, the caller's own unless another is named, holds an NFT.
    ///
    /// # Errors
    /// A caller without a wallet who names none, or a chain that can't be read: unknown is not "no".
    pub async fn verify_nft(&self, caller: &Caller, query: NftQuery) -> Result<Decision, Error> {
        let wallet = match query.wallet {
            Some(wallet) => wallet,
            None => own_wallet(caller)?,
        };
        let decision = self.explain(Query { gate: query.gate, wallets: vec![wallet] }).await;
        if decision.verdict == Verdict::Unknown {
            return Err(Error::OwnershipUnknown(decision.result.detail));
        }
        Ok(decision)
    }

    /// Chains that gates may name.
    #[must_use]
    pub fn chains(&self) -> Vec<ChainStatus> {
        self.evaluator.chains().list()
    }
}

fn own_wallet(caller: &Caller) -> Result<Wallet, Error> {
    let wallet = caller.account().and_then(|account| account.wallet.as_deref()).ok_or(Error::NoAccount)?;
    wallet.parse().map_err(|_| Error::Corrupt("wallet"))
}
