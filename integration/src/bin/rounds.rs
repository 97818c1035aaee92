//! Rounds of faults, as many as wanted.
#![allow(clippy::print_stdout, reason = "a program that speaks to people")]

use std::{ops::Range, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use streamgate_integration::rounds::{Arena, ENGINES, EnginePlan, Held, Outlived, Plan, SERVICES};
use streamgate_testkit::Shape;

/// Runs rounds in which a part of the platform fails, and prints how it went.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// Kills each service at seeded moments of a title's life (SIGKILL) and starts it again.
    Kill {
        /// Rounds of each service.
        #[arg(default_value_t = 20)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Only these services.
        #[arg(long)]
        service: Vec<String>,
        /// On embedded engines instead of PostgreSQL, Redis, NATS and S3.
        #[arg(long)]
        embedded: bool,
        /// Keeps what the platform logged in rounds that did not hold here.
        #[arg(long)]
        logs: Option<PathBuf>,
    },
    /// Stops, kills, freezes, slows or empties each engine while a title is made and played, and brings it back.
    Engine {
        /// Rounds of each engine.
        #[arg(default_value_t = 5)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Only these engines.
        #[arg(long)]
        engine: Vec<String>,
        /// Seconds that an engine is away, instead of what the seed says.
        #[arg(long)]
        away: Option<u64>,
        /// Keeps what the platform logged in rounds that did not hold here.
        #[arg(long)]
        logs: Option<PathBuf>,
    },
}

/// Rounds of each engine.
async fn engine_rounds(seeds: Range<u64>, only: &[String], away: Option<u64>, logs: Option<PathBuf>) -> Result<ExitCode> {
    let (mut broken, mut lines) = (Vec::new(), Vec::new());
    let mut arena = Arena::start(Shape::NineOnEngines).await?;
    for (engine, _) in ENGINES.into_iter().filter(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name)) {
        let mut held = Vec::new();
        let before = broken.len();
        for seed in seeds.clone() {
            let mut plan = EnginePlan::of(engine, seed);
            plan.away = away.map_or(plan.away, Duration::from_secs);
            match Box::pin(arena.engine_round(plan)).await {
                Ok(outlived) => {
                    println!("{plan}: held, answering after {:.2} s", outlived.answering.as_secs_f64());
                    held.push(outlived);
                }
                Err(error) => {
                    println!("{plan}: DID NOT HOLD: {error:#}");
                    broken.push(format!("{plan}: {error:#}"));
                    if let Some(folder) = &logs {
                        std::fs::write(folder.join(format!("{engine}-{seed}.log")), arena.output())?;
                    }
                    // What is left of a broken round must not spoil the next.
                    arena = Arena::start(Shape::NineOnEngines).await?;
                }
            }
        }
        lines.push(engine_row(engine, &held, broken.len() - before));
    }
    println!(
        "\n{:<11} {:>6} {:>6} {:>12} {:>12} {:>8} {:>6}",
        "engine", "rounds", "broken", "answering s", "caught up s", "repeats", "jobs"
    );
    lines.iter().chain(&broken).for_each(|line| println!("{line}"));
    println!("(seconds after the engine was back, the slowest; repeats: calls that clients had to repeat)");
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn engine_row(engine: &str, held: &[Outlived], broken: usize) -> String {
    let slowest = |of: fn(&Outlived) -> Duration| held.iter().map(of).max().unwrap_or_default().as_secs_f64();
    let (answering, caught_up) = (slowest(|one| one.answering), slowest(|one| one.caught_up));
    let (repeats, jobs) = held.iter().fold((0, 0), |(repeats, jobs), one| (repeats + one.repeats, jobs + one.jobs));
    format!("{engine:<11} {:>6} {broken:>6} {answering:>12.2} {caught_up:>12.2} {repeats:>8} {jobs:>6}", held.len() + broken)
}

/// The rounds of one service.
#[derive(Debug, Default)]
struct Row {
    held: Vec<Held>,
    broken: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let (seeds, first, service, embedded, logs) = match Arguments::parse().fault {
        Fault::Kill { seeds, first, service, embedded, logs } => (seeds, first, service, embedded, logs),
        Fault::Engine { seeds, first, engine, away, logs } => {
            return Box::pin(engine_rounds(first..first + seeds, &engine, away, logs)).await;
        }
    };
    if let Some(unknown) = service.iter().find(|name| !SERVICES.contains(&name.as_str())) {
        bail!("there is no service called {unknown}");
    }
    let shape = if embedded { Shape::NineProcesses } else { Shape::NineOnEngines };
    let chosen = SERVICES.into_iter().filter(|name| service.is_empty() || service.iter().any(|wanted| wanted == name));
    let mut rows = Vec::new();
    let mut arena = Arena::start(shape).await?;
    for name in chosen {
        let plans = (first..first + seeds).map(|seed| Plan::of(name, seed));
        let mut row = Row::default();
        for plan in plans {
            if !row.takes(plan, arena.round(plan).await) {
                if let Some(folder) = &logs {
                    std::fs::write(folder.join(format!("{name}-{}.log", plan.seed)), arena.output())?;
                }
                // What is left of a broken round must not spoil the next.
                arena = Arena::start(shape).await?;
            }
        }
        rows.push((name, row));
    }
    print_table(&rows);
    let broken = rows.iter().any(|(_, row)| !row.broken.is_empty());
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Row {
    /// Takes what came of a round; says whether it held.
    fn takes(&mut self, plan: Plan, came: Result<Held>) -> bool {
        match came {
            Ok(held) => {
                println!("{plan}: held, ready after {:.2} s", held.ready.as_secs_f64());
                self.held.push(held);
                true
            }
            Err(error) => {
                println!("{plan}: DID NOT HOLD: {error:#}");
                self.broken.push(format!("{plan}: {error:#}"));
                false
            }
        }
    }
}

fn print_table(rows: &[(&str, Row)]) {
    println!(
        "\n{:<11} {:>6} {:>6} {:>9} {:>12} {:>8} {:>6}",
        "service", "rounds", "broken", "ready s", "answering s", "repeats", "jobs"
    );
    for (service, Row { held, broken }) in rows {
        let slowest = |of: fn(&Held) -> Duration| held.iter().map(of).max().unwrap_or_default().as_secs_f64();
        let (repeats, jobs): (usize, usize) =
            held.iter().fold((0, 0), |(repeats, jobs), one| (repeats + one.repeats, jobs + one.jobs));
        println!(
            "{service:<11} {:>6} {:>6} {:>9.2} {:>12.2} {repeats:>8} {jobs:>6}",
            held.len() + broken.len(),
            broken.len(),
            slowest(|one| one.ready),
            slowest(|one| one.answering),
        );
    }
    println!("\n(ready, answering: the slowest; repeats: calls that clients had to repeat; jobs: handed in and done)");
    rows.iter().flat_map(|(_, row)| &row.broken).for_each(|broken| println!("{broken}"));
}
