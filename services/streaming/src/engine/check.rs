//! Whether running sessions may go on: the token, the session and its gate.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use streamgate_core::{Failure, Role, time::now_ms};

use super::{
    Engine,
    neighbours::{GateQuestion, Title, Verdict},
    session::{GATE_MISSING, GATE_NOT_MET, Live, ROLE_LOST, State, TITLE_DELETED},
};
use crate::{Error, Result};

/// Playback ids that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// So many ends that fail are the database's fault and no session's. Each may take it as long as it waits for a lock.
const MOST_FAILED_ENDS: usize = 2;

/// What became of the lookup of a playback id.
type Resolved = Result<Option<Title>, Failure>;

/// A session, the title that it plays, and the doubts that the check began with.
struct Check<'a> {
    live: &'a Arc<Live>,
    title: &'a Title,
    doubts: u64,
}

/// A session that must not go on, and why.
struct End {
    live: Arc<Live>,
    state: State,
    reason: &'static str,
    unmet: Vec<String>,
}

impl Check<'_> {
    fn account(&self) -> Option<&str> {
        self.live.opened().account_id.as_deref()
    }

    fn is_owners(&self) -> bool {
        self.account() == Some(self.title.owner.as_str())
    }

    fn grant(&self) {
        self.live.grant(now_ms(), &self.title.gate_hash, self.doubts);
    }

    fn revoke(&self, reason: &'static str, unmet: Vec<String>) -> End {
        End { live: Arc::clone(self.live), state: State::Revoked, reason, unmet }
    }
}

impl Engine {
    /// The session behind a playback token, if it may read under `playback_id` now.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn entitled(&self, token: &str, playback_id: &str) -> Result<Arc<Live>> {
        let claims = self.deps.tokens.verify(token).await.map_err(token_error)?;
        if claims.playback_id != playback_id {
            return Err(Error::TokenForeign);
        }
        let live = self.sessions.find(&claims.session_id).await?.ok_or(Error::TokenInvalid)?;
        let opened = live.opened();
        let bound = opened.playback_id == claims.playback_id
            && opened.content_id == claims.content_id
            && opened.opened_gate == claims.gate_hash;
        if !bound {
            return Err(Error::TokenInvalid);
        }
        self.go_on(&live).await?;
        live.touch(now_ms());
        Ok(live)
    }

    /// Checks the gate again if the last check is too old. Without an answer, a recent positive check still counts.
    pub(super) async fn go_on(&self, live: &Arc<Live>) -> Result<()> {
        let recheck_ms = i64::from(self.config.recheck_seconds) * 1000;
        live.refuse_if_over(now_ms())?;
        if live.granted_within(now_ms(), recheck_ms) {
            return Ok(());
        }
        let one_check = live.checking.lock().await;
        let now = now_ms();
        let ask = !live.granted_within(now, recheck_ms) && !live.unknown_within(now, self.config.unknown_retry_ms.into());
        if ask && live.is_active(now) {
            let ends = self.check_all(std::slice::from_ref(live)).await;
            self.end_all(ends).await?;
        }
        drop(one_check);
        live.refuse_if_over(now_ms())?;
        let trusted_ms = recheck_ms.max(i64::from(self.config.keep_unknown_seconds) * 1000);
        if live.granted_within(now_ms(), trusted_ms) { Ok(()) } else { Err(Error::OwnershipUnknown) }
    }

    /// Checks all sessions in use together. One whose check is under way is left to it.
    ///
    /// # Errors
    /// What the store says of a session that could not be ended. All others were checked.
    pub async fn check_in_use(&self) -> Result<usize> {
        let now = now_ms();
        let in_use = self.sessions.in_use(now - i64::from(self.config.in_use_seconds) * 1000, now);
        self.deps.metrics.sessions_in_use(in_use.len());
        self.check_unless_checking(in_use).await
    }

    /// The gate of a title has changed: earlier checks no longer count, and the sessions in memory are checked now.
    ///
    /// # Errors
    /// What the store says.
    pub async fn gate_changed(&self, content_id: &str) -> Result<()> {
        let now = now_ms();
        // Before the doubt: a check that begins after it must see the new gate.
        self.deps.titles.forget(content_id);
        let doubted = self.sessions.doubt_title(content_id).await?;
        let active = doubted.into_iter().filter(|live| live.is_active(now)).collect();
        let checked = self.check_unless_checking(active).await?;
        tracing::info!(content_id, sessions = checked, "sessions checked against a new gate");
        Ok(())
    }

    async fn check_unless_checking(&self, sessions: Vec<Arc<Live>>) -> Result<usize> {
        let (mut held, mut chosen) = (Vec::new(), Vec::new());
        for live in sessions {
            if let Ok(one_check) = Arc::clone(&live.checking).try_lock_owned() {
                held.push(one_check);
                chosen.push(live);
            }
        }
        let ends = self.check_all(&chosen).await;
        // Nobody who plays on waits for the ends of others.
        drop(held);
        self.end_all(ends).await?;
        Ok(chosen.len())
    }

    /// Looks every title up again, asks what lets each session play, and notes who may go on. The others have to end.
    async fn check_all(&self, sessions: &[Arc<Live>]) -> Vec<End> {
        let doubts: Vec<u64> = sessions.iter().map(|live| live.doubts()).collect();
        let titles = self.resolve_all(sessions).await;
        let (mut by_right, mut by_gate, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (live, doubts) in sessions.iter().zip(doubts) {
            match titles.get(&live.opened().playback_id) {
                Some(Ok(Some(title))) if title.content_id == live.opened().content_id => {
                    let check = Check { live, title, doubts };
                    if live.opened().privileged { by_right.push(check) } else { by_gate.push(check) }
                }
                Some(Ok(_)) => {
                    let live = Arc::clone(live);
                    ends.push(End { live, state: State::Ended, reason: TITLE_DELETED, unmet: Vec::new() });
                }
                Some(Err(_)) | None => self.note_unknown(live),
            }
        }
        let (of_rights, of_gates) = tokio::join!(self.check_rights(by_right), self.check_gates(by_gate));
        ends.extend(of_rights.into_iter().chain(of_gates));
        ends
    }

    /// Whose title it is plays on in any role, until the account may do nothing any more; anybody else only while an
    /// operator. A token tells neither.
    async fn check_rights(&self, checks: Vec<Check<'_>>) -> Vec<End> {
        let roles = self.roles_of(&checks).await;
        let mut ends = Vec::new();
        for check in checks {
            match check.account().and_then(|account| roles.get(account)) {
                Some(Some(role)) if *role == Role::Operator || check.is_owners() => check.grant(),
                Some(_) => ends.push(check.revoke(ROLE_LOST, Vec::new())),
                None => self.note_unknown(check.live),
            }
        }
        ends
    }

    /// What the accounts of these sessions may do, as far as it can be told.
    async fn roles_of(&self, checks: &[Check<'_>]) -> HashMap<String, Option<Role>> {
        let accounts: HashSet<&str> = checks.iter().filter_map(Check::account).collect();
        if accounts.is_empty() {
            return HashMap::new();
        }
        let accounts: Vec<String> = accounts.into_iter().map(str::to_owned).collect();
        let roles = self.deps.accounts.roles(accounts.clone()).await.unwrap_or_else(|failure| {
            tracing::warn!(reason = %failure.reason, accounts = accounts.len(), "roles could not be asked for");
            Vec::new()
        });
        accounts.into_iter().zip(roles).collect()
    }

    /// Asks all gates together, each once for one wallet.
    async fn check_gates(&self, checks: Vec<Check<'_>>) -> Vec<End> {
        let (mut questions, mut places, mut asked, mut ends) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        for check in checks {
            let Some(gate) = &check.title.gate else {
                ends.push(check.revoke(GATE_MISSING, Vec::new()));
                continue;
            };
            let wallet = &check.live.opened().wallet;
            let place = *places.entry((&check.title.content_id, &check.title.gate_hash, wallet)).or_insert_with(|| {
                questions.push(GateQuestion { gate: Arc::clone(gate), wallet: wallet.clone() });
                questions.len() - 1
            });
            asked.push((check, place));
        }
        if questions.is_empty() {
            return ends;
        }
        let verdicts = self.deps.gates.evaluate(questions).await;
        for (check, place) in asked {
            match verdicts.get(place) {
                Some(Verdict::Granted) => {
                    self.deps.metrics.gate_checked("granted");
                    check.grant();
                }
                Some(Verdict::Denied(unmet)) => {
                    self.deps.metrics.gate_checked("denied");
                    ends.push(check.revoke(GATE_NOT_MET, unmet.clone()));
                }
                Some(Verdict::Unknown) | None => self.note_unknown(check.live),
            }
        }
        ends
    }

    /// Ends sessions, the next one also when one can't be ended. Those that are left are for the next check.
    ///
    /// # Errors
    /// What the store said first.
    async fn end_all(&self, ends: Vec<End>) -> Result<()> {
        let mut failures = Vec::new();
        for End { live, state, reason, unmet } in ends {
            failures.extend(self.close(&live, state, reason, unmet).await.err());
            if failures.len() == MOST_FAILED_ENDS {
                break;
            }
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn resolve_all(&self, sessions: &[Arc<Live>]) -> HashMap<String, Resolved> {
        let ids: HashSet<String> = sessions.iter().map(|live| live.opened().playback_id.clone()).collect();
        let lookups = stream::iter(ids).map(|id| async move {
            let resolved = self.deps.titles.resolve(&id).await;
            if let Err(failure) = &resolved {
                tracing::warn!(playback_id = %id, reason = %failure.reason, "a title could not be looked up for a gate check");
            }
            (id, resolved)
        });
        lookups.buffer_unordered(LOOKUPS_AT_ONCE).collect().await
    }

    fn note_unknown(&self, live: &Live) {
        self.deps.metrics.gate_checked("unknown");
        live.not_told(now_ms());
    }

    pub(super) async fn close(&self, live: &Live, state: State, reason: &str, unmet: Vec<String>) -> Result<()> {
        if self.sessions.close(live, state, reason, unmet).await? {
            self.deps.metrics.session_closed(reason);
            tracing::info!(session_id = %live.opened().id, reason, "session closed");
        }
        Ok(())
    }

    /// Writes down what changed in passing, and drops what ended long ago.
    ///
    /// # Errors
    /// What the store says.
    pub async fn tidy(&self) -> Result<()> {
        let now = now_ms();
        self.note_gone().await?;
        self.sessions.sweep(now - i64::from(self.config.keep_ended_hours) * 3_600_000, now).await?;
        Ok(())
    }

    /// Writes down what changed in passing.
    ///
    /// # Errors
    /// What the store says.
    pub async fn flush(&self) -> Result<()> {
        self.sessions.flush().await
    }
}

/// The checker's answer in this service's words: callers rely on the two reasons.
pub(super) fn token_error(failure: Failure) -> Error {
    use streamgate_core::ErrorKind::{InvalidArgument, NotFound, PermissionDenied, Unauthenticated};
    match failure.kind {
        Unauthenticated if failure.reason == "token_expired" => Error::TokenExpired,
        Unauthenticated | InvalidArgument | PermissionDenied | NotFound => Error::TokenInvalid,
        _ => Error::neighbour("check a playback token")(failure),
    }
}
