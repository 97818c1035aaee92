//! Rounds in which not a service fails but what the services stand on: PostgreSQL, Redis, NATS or S3 is stopped, killed,
//! frozen, slowed, or loses what it kept, under load. Every answer is right or says "not now", no gate opens, and when the
//! engine is back everything catches up by itself.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use streamgate_testkit::{Engines, Platform, engines::Engine, eventually};
use tokio::{sync::watch, time::sleep};

use super::{
    Arena, GONE_BOUND, Phase, SERVICES,
    creator::{Creator, Made},
    dice::Dice,
    first_segment,
    onlookers::{Jobs, Onlookers},
    path_to,
    patient::Patient,
};
use crate::rest::Rest;

/// Shortest and longest time that an engine is away.
const AWAY_MS: (u64, u64) = (800, 4_000);
/// Milliseconds after the begin of a part of the title's life within which the engine goes.
const WITHIN_MS: u64 = 300;
/// A slowed engine stands still and works by turns, for so long each.
const STILL: Duration = Duration::from_millis(180);
const AT_WORK: Duration = Duration::from_millis(20);
/// Every service answers again within this after the engine is back.
pub const BACK_BOUND: Duration = Duration::from_secs(15);
/// Services that tell or hear of events.
const TELLERS: [&str; 6] = ["upload", "transcoder", "streaming", "metadata", "worker", "monitor"];

/// How an engine goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It is asked to stop, and started again.
    Stopped,
    /// It is killed, and started again.
    Killed,
    /// Connections stay open, and nothing answers for a while.
    Frozen,
    /// It works for a tenth of the time only.
    Slowed,
    /// It comes back without anything that it kept. Only for what is not the truth: NATS and Redis.
    Emptied,
}

/// The engines, and what each may go through.
pub const ENGINES: [(&str, &[Outage]); 4] = [
    ("postgres", &[Outage::Stopped, Outage::Killed, Outage::Frozen, Outage::Slowed]),
    ("redis", &[Outage::Stopped, Outage::Frozen, Outage::Emptied, Outage::Slowed]),
    ("nats", &[Outage::Stopped, Outage::Killed, Outage::Frozen, Outage::Emptied, Outage::Slowed]),
    ("s3", &[Outage::Stopped, Outage::Killed, Outage::Frozen, Outage::Slowed]),
];

/// When which engine goes away, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnginePlan {
    /// The engine.
    pub engine: &'static str,
    /// Decides everything else.
    pub seed: u64,
    /// How it goes.
    pub outage: Outage,
    /// The part of the title's life in which it goes.
    pub phase: Phase,
    /// How long after the begin of that part.
    pub delay: Duration,
    /// How long it is away.
    pub away: Duration,
}

impl EnginePlan {
    /// What a seed means for an engine. Seeds in a row take each kind of outage in turn.
    #[must_use]
    pub fn of(engine: &'static str, seed: u64) -> Self {
        let mut dice = Dice::of(seed, engine);
        let outages = ENGINES.iter().find(|(name, _)| *name == engine).map_or(&[Outage::Stopped][..], |(_, outages)| outages);
        let turn = |length: usize| usize::try_from(seed).unwrap_or_default() % length;
        Self {
            engine,
            seed,
            outage: outages[turn(outages.len())],
            phase: Phase::ALL[usize::try_from(dice.below(4)).unwrap_or_default()],
            delay: Duration::from_millis(dice.below(WITHIN_MS)),
            away: Duration::from_millis(AWAY_MS.0 + dice.below(AWAY_MS.1 - AWAY_MS.0)),
        }
    }
}

impl fmt::Display for EnginePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, seed, outage, phase, delay, away } = self;
        let (delay, away) = (delay.as_millis(), away.as_millis());
        write!(f, "{engine}, seed {seed}: {outage:?} for {away} ms, {delay} ms into {phase:?}")
    }
}

/// How a round that held went.
#[derive(Debug, Clone, Copy)]
pub struct Outlived {
    /// From when the engine was back until every service answered through the edge.
    pub answering: Duration,
    /// From the engine's return until the title was ready, played, and every event had arrived.
    pub caught_up: Duration,
    /// Calls of clients that had to be repeated.
    pub repeats: usize,
    /// Jobs that were handed in during the round; each was done.
    pub jobs: usize,
}

impl Arena {
    /// Runs one round; the platform must stand on engines.
    ///
    /// # Errors
    /// When something did not hold; the message says what.
    pub async fn engine_round(&mut self, plan: EnginePlan) -> Result<Outlived> {
        let patient = Patient::new(false);
        let (viewer, stranger) = (self.stage.viewer().await?, self.stage.anonymous().sign_in(&self.stage.stranger).await?);
        let session = viewer.session(&self.shown.playback_id).await?;
        let (segment, bytes) = first_segment(&viewer.anonymous(), &session).await?;
        ensure!(bytes == self.first_segment, "a segment has changed since it was made");
        let gate = self.stage.pass.gate(self.stage.anvil.chain_id());
        let platform = &mut self.stage.platform;
        let name = format!("round-{}-{}", plan.engine, plan.seed);

        let creator = Creator { patient: &patient, rest: &self.stage.creator, viewer: &viewer, gate: &gate };
        let (stranger, playback_id) = (&stranger, self.shown.playback_id.as_str());
        let onlookers = Onlookers { patient: &patient, stranger, playback_id, segment: &segment, bytes: &bytes };
        let jobs = Jobs::new(&patient, &self.operator);
        let (begins, begun) = watch::channel(None);
        let outage = take_away(platform, &self.operator, plan, begun);
        let round = async { tokio::try_join!(creator.live(&self.clip, &name, begins), outage) };
        let (made, (back, answering)): (Made, _) = tokio::select! {
            done = round => done?,
            wrong = onlookers.look() => bail!("{:#}", wrong.err().context("onlookers look on")?),
            wrong = jobs.submit(&name) => bail!("{:#}", wrong.err().context("jobs go on")?),
        };
        let jobs = jobs.all_done().await?;
        nothing_waits(&self.operator).await?;
        let caught_up = back.elapsed();
        self.check(&made, &name, stranger).await?;
        ensure!(answering <= BACK_BOUND, "a service answered only {answering:?} after {} was back", plan.engine);
        Ok(Outlived { answering, caught_up, repeats: patient.repeats(), jobs })
    }
}

/// Takes the engine away at its moment and brings it back; gives when it was back, and how long after that every service
/// answered.
async fn take_away(
    platform: &mut Platform,
    operator: &Rest,
    plan: EnginePlan,
    mut begun: watch::Receiver<Option<Phase>>,
) -> Result<(Instant, Duration)> {
    begun.wait_for(|phase| *phase >= Some(plan.phase)).await.context("the title's life ended before")?;
    // The moment and the length are what the seed chose; nothing is waited for.
    sleep(plan.delay).await;
    let engines = platform.engines().context("the platform stands on no engines")?;
    go(engines, plan).await?;
    match plan.outage {
        Outage::Slowed => hold_up(engine(engines, plan.engine)?, plan.away).await,
        _ => sleep(plan.away).await,
    }
    come_back(engines, plan).await?;
    let back = Instant::now();
    for service in SERVICES {
        eventually("the service answers through the edge", GONE_BOUND, || async {
            Ok(operator.get(path_to(service)).await.ok().filter(|reply| reply.status == 200))
        })
        .await
        .with_context(|| service.to_owned())?;
    }
    Ok((back, back.elapsed()))
}

fn engine<'a>(engines: &'a mut Engines, name: &str) -> Result<&'a mut dyn Engine> {
    Ok(match name {
        "postgres" => &mut engines.postgres,
        "redis" => &mut engines.redis,
        "nats" => &mut engines.nats,
        "s3" => &mut engines.s3,
        _ => bail!("there is no engine called {name}"),
    })
}

async fn go(engines: &mut Engines, plan: EnginePlan) -> Result<()> {
    if plan.outage == Outage::Emptied && plan.engine == "nats" {
        return engines.nats.wipe().await;
    }
    let engine = engine(engines, plan.engine)?;
    match plan.outage {
        Outage::Stopped => engine.stop().await,
        // Redis keeps nothing on disk here: to kill it is to empty it.
        Outage::Killed | Outage::Emptied => {
            engine.kill();
            Ok(())
        }
        Outage::Frozen => {
            engine.pause();
            Ok(())
        }
        Outage::Slowed => Ok(()),
    }
}

async fn hold_up(engine: &mut dyn Engine, time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        engine.pause();
        sleep(STILL).await;
        engine.resume();
        sleep(AT_WORK).await;
    }
}

async fn come_back(engines: &mut Engines, plan: EnginePlan) -> Result<()> {
    let engine = engine(engines, plan.engine)?;
    match plan.outage {
        Outage::Frozen => {
            engine.resume();
            Ok(())
        }
        Outage::Slowed => Ok(()),
        Outage::Stopped | Outage::Killed | Outage::Emptied => engine.restart().await,
    }
}

/// Every event has arrived everywhere, and none was given up.
async fn nothing_waits(operator: &Rest) -> Result<()> {
    for service in TELLERS {
        let dead = operator.get(&format!("/api/v1/events/dead-letters?service={service}")).await?.expect(200)?.json()?;
        ensure!(dead["dead_letters"].as_array().is_none_or(Vec::is_empty), "{service} has given events up: {dead}");
        eventually("every event has left", GONE_BOUND, || async {
            let mut token = String::new();
            loop {
                let path = format!("/api/v1/events?service={service}&page_size=100&page_token={token}");
                let page = operator.get(&path).await?.expect(200)?.json()?;
                let events = page["events"].as_array().map_or(&[][..], Vec::as_slice);
                if events.iter().any(|event| event["waiting_for"].as_array().is_some_and(|waiting| !waiting.is_empty())) {
                    return Ok(None);
                }
                match page["next_page_token"].as_str() {
                    None | Some("") => return Ok(Some(())),
                    Some(next) => token = next.to_owned(),
                }
            }
        })
        .await
        .with_context(|| service.to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_in_a_row_take_every_kind_of_outage() {
        for (engine, outages) in ENGINES {
            let seen: Vec<Outage> = (0..outages.len() as u64).map(|seed| EnginePlan::of(engine, seed).outage).collect();
            assert_eq!(seen, outages);
        }
    }
}
