//! Facts with a short memory. Everyone who needs a fact while it is being read waits for that one read.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, join_all},
};
use moka::future::Cache;
use streamgate_core::evm::ChainId;

use super::fact::{Fact, Known};
use crate::rpc::{ChainReader, Chains};

/// How long any fact is remembered. Playback promises that a moved token ends it within ten seconds.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// How long a fact that denies is believed: who has just bought a token wants in.
pub(super) const DENIAL_BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Facts remembered at the most.
const REMEMBERED_AT_MOST: u64 = 100_000;

/// A fact and when its reading began.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub known: Known,
    pub since: Instant,
}

type Batch = Shared<BoxFuture<'static, Arc<HashMap<Fact, Remembered>>>>;

/// Reads and remembers facts.
#[derive(Clone)]
pub(super) struct Facts {
    chains: Chains,
    memory: Cache<Fact, Remembered>,
    under_way: Arc<Mutex<HashMap<Fact, Batch>>>,
}

impl Facts {
    pub(super) fn new(chains: Chains) -> Self {
        let memory = Cache::builder().max_capacity(REMEMBERED_AT_MOST).time_to_live(REMEMBERED_FOR).build();
        Self { chains, memory, under_way: Arc::default() }
    }

    pub(super) const fn chains(&self) -> &Chains {
        &self.chains
    }

    pub(super) async fn remembered(&self, fact: &Fact) -> Option<Remembered> {
        self.memory.get(fact).await.filter(|found| found.since.elapsed() < REMEMBERED_FOR)
    }

    /// Reads facts: those of one chain together, at one block.
    pub(super) async fn read(&self, wanted: HashSet<Fact>) -> HashMap<Fact, Known> {
        let batches = self.join_or_begin(&wanted);
        let mut found = HashMap::with_capacity(wanted.len());
        for batch in join_all(batches).await {
            found.extend(batch.iter().filter(|(fact, _)| wanted.contains(fact)).map(|(fact, r)| (fact.clone(), r.known.clone())));
        }
        found
    }

    /// The batches that will hold the wanted facts: those under way, and one more a chain for the rest.
    fn join_or_begin(&self, wanted: &HashSet<Fact>) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut fresh: HashMap<ChainId, Vec<Fact>> = HashMap::new();
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for fact in wanted {
            match under_way.get(fact) {
                Some(batch) if batches.iter().any(|known: &Batch| known.ptr_eq(batch)) => {}
                Some(batch) => batches.push(batch.clone()),
                None => fresh.entry(fact.chain).or_default().push(fact.clone()),
            }
        }
        for (chain, facts) in fresh {
            let batch = self.clone().read_chain(chain, facts.clone()).boxed().shared();
            under_way.extend(facts.into_iter().map(|fact| (fact, batch.clone())));
            // Driven on its own: others wait for it too, and the caller may go away.
            tokio::spawn(batch.clone());
            batches.push(batch);
        }
        batches
    }

    async fn read_chain(self, chain: ChainId, facts: Vec<Fact>) -> Arc<HashMap<Fact, Remembered>> {
        let since = Instant::now();
        let known = match self.chains.reader(chain) {
            Some(reader) => ask(reader.as_ref(), &facts).await,
            None => vec![Known::unknown(format!("no endpoint is configured for {chain}")); facts.len()],
        };
        let found: HashMap<Fact, Remembered> =
            facts.into_iter().zip(known.into_iter().map(|known| Remembered { known, since })).collect();
        // What is not known is not remembered: the next one asks again.
        for (fact, remembered) in found.iter().filter(|(_, r)| r.known.value.is_ok()) {
            self.memory.insert(fact.clone(), remembered.clone()).await;
        }
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for fact in found.keys() {
            under_way.remove(fact);
        }
        drop(under_way);
        Arc::new(found)
    }
}

async fn ask(reader: &dyn ChainReader, facts: &[Fact]) -> Vec<Known> {
    let calls: Vec<_> = facts.iter().map(Fact::call).collect();
    match reader.read(&calls).await {
        Ok(reading) if reading.answers.len() == facts.len() => {
            let pairs = facts.iter().zip(&reading.answers);
            pairs.map(|(fact, answer)| Known { value: fact.read(answer), block: Some(reading.block) }).collect()
        }
        Ok(_) => vec![Known::unknown("the chain answered something that was not asked"); facts.len()],
        Err(why) => vec![Known::unknown(why.to_string()); facts.len()],
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("chains", &self.chains).finish_non_exhaustive()
    }
}
