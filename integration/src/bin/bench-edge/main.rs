//! CPU per REST call at the edge, beside Envoy's JSON transcoder, for the same message from the same service.
//!
//! Both stand in front of one small gRPC service and are called alternately by the same clients. Before anything is
//! counted, the two must answer with the same JSON. The edge does all it always does: request ids, rate limits, CORS,
//! metrics, tags of answers, deadlines. `scripts/bench/edge` installs what is needed and runs this.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are printed")]

mod backend;
mod contestant;
mod load;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::Value;

use self::{
    contestant::{Contestant, WRAPPED_IN},
    load::{Call, measure},
};

/// Times that both are tried before counting begins.
const WARM_UP_CALLS: usize = 2_000;

#[derive(Debug, Parser)]
struct Wanted {
    /// Pairs of runs; the median of their ratios counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Calls in one run.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Clients that call at once, each on a connection of its own.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Only the edge, without a peer: for a profiler to look at. Its process id is told first.
    #[arg(long)]
    profile: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let wanted = Wanted::parse();
    let scratch = tempfile::tempdir()?;
    let backend = backend::serve().await?;
    let ours = Contestant::ours(scratch.path(), backend).await?;
    if wanted.profile {
        eprintln!("the edge is process {}", ours.process_id());
        for _ in 0..wanted.rounds {
            measure(&ours, &Call::read(), wanted.calls, wanted.clients).await?;
        }
        return Ok(());
    }
    let peer = Contestant::envoy(scratch.path(), backend).await?;
    for (metric, call) in [("cpu", Call::read()), ("post", Call::write())] {
        same_answer(&ours, &peer, &call).await.with_context(|| format!("compare the answers of {metric}"))?;
        let mut pairs = Vec::with_capacity(wanted.rounds);
        for contestant in [&ours, &peer] {
            measure(contestant, &call, WARM_UP_CALLS, wanted.clients).await?;
        }
        for round in 1..=wanted.rounds {
            let mine = measure(&ours, &call, wanted.calls, wanted.clients).await?;
            let theirs = measure(&peer, &call, wanted.calls, wanted.clients).await?;
            eprintln!("{metric} round {round}: {mine:.1} us beside {theirs:.1} us");
            pairs.push((mine, theirs));
        }
        let median = |pick: fn(&(f64, f64)) -> f64| median(pairs.iter().map(pick).collect());
        let (mine, theirs, ratio) = (median(|pair| pair.0), median(|pair| pair.1), median(|pair| pair.0 / pair.1));
        println!("bench edge {metric} ours={mine:.1} peer={theirs:.1} ratio={ratio:.3}");
    }
    Ok(())
}

/// A ratio of two different answers would say nothing.
async fn same_answer(ours: &Contestant, peer: &Contestant, call: &Call) -> Result<()> {
    let (mine, theirs): (Value, Value) = (
        serde_json::from_slice(&call.once(ours.url()).await?).context("read our answer")?,
        serde_json::from_slice(&call.once(peer.url()).await?).context("read the peer's answer")?,
    );
    let theirs = &theirs[WRAPPED_IN];
    ensure!(mine == *theirs, "the answers differ:\n{mine:#}\n{theirs:#}");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
