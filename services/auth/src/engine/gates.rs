//! Gates, answered.

use std::collections::HashMap;

use streamgate_chain::{Decision, Query, rpc::ChainStatus};
use streamgate_core::{Caller, Failure, evm::Wallet, gate::Verdict};

use super::Engine;
use crate::{Error, command::NftQuery};

impl Engine {
    /// The answers of many gates, in order: unknown where there is no gate that can be read. Equal questions, such as
    /// those of several sessions of one viewer, are answered once.
    pub async fn evaluate(&self, queries: Vec<Result<Query, Failure>>) -> Vec<Decision> {
        let mut places: HashMap<(String, Vec<Wallet>), usize> = HashMap::new();
        let mut different = Vec::new();
        let mut place_of = |query: Query| {
            *places.entry((query.gate.hash(), query.wallets.clone())).or_insert_with(|| {
                different.push(query);
                different.len() - 1
            })
        };
        let asked: Vec<Result<usize, Failure>> = queries.into_iter().map(|query| query.map(&mut place_of)).collect();
        let answers = self.evaluator.evaluate_many(different).await;
        let decisions: Vec<Decision> = asked
            .into_iter()
            .map(|place| match place {
                Ok(place) => answers[place].clone(),
                Err(failure) => Decision::unreadable(failure.message),
            })
            .collect();
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
