//! Those who look on while a service dies: who may not play must never get a byte, who may must never get a wrong one.

use std::{cell::RefCell, time::Duration};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use streamgate_testkit::eventually;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;

use super::patient::Patient;
use crate::rest::{Reply, Rest};

/// How often each of them asks.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// How often a job is handed in.
const JOB_EVERY: Duration = Duration::from_millis(400);
/// A job that waits for a dead worker's lease to end is done within this.
const JOB_BOUND: Duration = Duration::from_secs(90);

/// One segment of a title that was there before the round, and who asks for it.
#[derive(Debug)]
pub(super) struct Onlookers<'a> {
    pub(super) patient: &'a Patient,
    pub(super) stranger: &'a Rest,
    pub(super) playback_id: &'a str,
    /// With a token that is good.
    pub(super) segment: &'a Url,
    pub(super) bytes: &'a Bytes,
}

impl Onlookers<'_> {
    /// Looks on until something is wrong, and says what.
    pub(super) async fn look(&self) -> Result<()> {
        let mut tick = interval(ASK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bare = self.segment.clone();
        bare.set_query(None);
        loop {
            tick.tick().await;
            self.refused("a segment without a token", self.stranger.anonymous().get(bare.as_str()).await)?;
            self.refused("a segment with a stranger's credential", self.stranger.get(bare.as_str()).await)?;
            self.refused("a session of a stranger", self.stranger.try_session(self.playback_id).await)?;
            self.served(self.stranger.anonymous().get(self.segment.as_str()).await)?;
        }
    }

    fn refused(&self, what: &str, answer: Result<Reply>) -> Result<()> {
        match answer {
            Ok(reply) if matches!(reply.status, 401 | 403 | 503) => Ok(()),
            Ok(reply) => bail!("{what} was answered with {}: {}", reply.status, reply.text()),
            Err(error) => self.patient.judged(Err(error)).map(drop),
        }
    }

    /// The holder's own player: the right bytes, "not now", or an answer that is cut off and shows it.
    fn served(&self, answer: Result<Reply>) -> Result<()> {
        let Ok(reply) = answer else { return Ok(()) };
        match reply.status {
            200 => ensure!(
                reply.body == *self.bytes,
                "a segment came with other bytes: {}, not {}",
                reply.body.len(),
                self.bytes.len()
            ),
            503 => {}
            status => bail!("the holder's segment was answered with {status}: {}", reply.text()),
        }
        Ok(())
    }
}

/// Hands in jobs all the while, and sees to it that each is done.
#[derive(Debug)]
pub(super) struct Jobs<'a> {
    pub(super) patient: &'a Patient,
    pub(super) operator: &'a Rest,
    taken: RefCell<Vec<String>>,
}

impl<'a> Jobs<'a> {
    pub(super) const fn new(patient: &'a Patient, operator: &'a Rest) -> Self {
        Self { patient, operator, taken: RefCell::new(Vec::new()) }
    }

    /// Hands in one after the other, until something is wrong.
    pub(super) async fn submit(&self, name: &str) -> Result<()> {
        let mut tick = interval(JOB_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u32.. {
            tick.tick().await;
            let request = json!({"type": "sweep_uploads", "request_id": format!("{name}-{number}")});
            let taken = self.patient.persist("a job is taken", || self.operator.post("/api/v1/jobs", &request)).await?.json()?;
            self.taken.borrow_mut().push(taken["job"]["job_id"].as_str().unwrap_or_default().to_owned());
        }
        Ok(())
    }

    /// Waits until every job that was taken is done; gives how many there are.
    pub(super) async fn all_done(&self) -> Result<usize> {
        let taken = self.taken.take();
        for job_id in &taken {
            let path = format!("/api/v1/jobs/{job_id}");
            eventually("a job that was taken is done", JOB_BOUND, || async {
                let Some(reply) = self.patient.judged(self.operator.get(&path).await)? else { return Ok(None) };
                let job: Value = reply.json()?["job"].clone();
                match job["state"].as_str() {
                    Some("JOB_STATE_SUCCEEDED") => Ok(Some(())),
                    Some("JOB_STATE_QUEUED" | "JOB_STATE_RUNNING") => Ok(None),
                    _ => bail!("a job was lost: {job}"),
                }
            })
            .await?;
        }
        Ok(taken.len())
    }
}
