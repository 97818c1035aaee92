//! Sessions in the database, and the copies in memory that requests are answered from, so that a segment costs no
//! query. Several processes may serve one session: what one of them writes, the others read within [`FOLLOW_EVERY`].

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use streamgate_core::{
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_proto::streamgate::events::v1::{AccessGranted, event::Payload};
use streamgate_store::{Database, Outbox, Transaction};

pub use super::session_rows::{Filter, place};
use super::{
    session::{Live, Session, State},
    session_rows::{self as rows, Change},
};
use crate::{Error, Result};

/// How often a process looks for what others did to its sessions.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How far back each look reaches beyond the one before: clocks differ, and a change is stamped before it is committed.
const OVERLAP_MS: i64 = 15_000;
/// A copy that nobody asked for in this time is dropped; the row stays.
const IDLE_MS: i64 = 10 * 60 * 1000;

/// Whose session of which title, by playback id.
type Place = (Option<String>, String);

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    pub(super) database: Database,
    pub(super) outbox: Outbox,
    copies: RwLock<HashMap<String, Arc<Live>>>,
    /// The newest session of each viewer and title that is among the copies.
    places: RwLock<HashMap<Place, Arc<Live>>>,
    /// Held while a row is read, so that there is never a second copy.
    loading: tokio::sync::Mutex<()>,
    /// From when on the next look has to see what others did. Kept here, so that no task that begins anew loses it.
    unseen_ms: AtomicI64,
}

impl Sessions {
    /// Sessions of `database`, told through `outbox`.
    #[must_use]
    pub fn new(database: Database, outbox: Outbox) -> Self {
        let (copies, places, loading) = (RwLock::default(), RwLock::default(), tokio::sync::Mutex::default());
        Self { database, outbox, copies, places, loading, unseen_ms: AtomicI64::new(now_ms() - OVERLAP_MS) }
    }

    /// Stores a new session.
    pub async fn add(&self, session: Session) -> Result<Arc<Live>> {
        let mut tx = self.begin().await?;
        rows::insert(&mut tx, &session).await.map_err(Error::store("store a session"))?;
        let granted = AccessGranted {
            session_id: session.id.clone(),
            playback_id: session.playback_id.clone(),
            content_id: session.content_id.clone(),
            viewer: session.account_id.clone().unwrap_or_default(),
            owner: session.owner.clone(),
            gate_hash: session.opened_gate.clone(),
        };
        self.add_event(&mut tx, &session.id, Payload::AccessGranted(granted)).await?;
        tx.commit().await.map_err(Error::store("store a session"))?;
        let marks = rows::first_marks(&session);
        Ok(self.keep(session, marks))
    }

    /// The session with this id.
    pub async fn find(&self, id: &str) -> Result<Option<Arc<Live>>> {
        if let Some(live) = self.copy(id) {
            return Ok(Some(live));
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(live) = self.copy(id) {
            return Ok(Some(live));
        }
        let row = rows::find(&self.database, id).await.map_err(Error::store("read a session"))?;
        Ok(row.map(|(session, marks)| self.keep(session, marks)))
    }

    /// The newest session that runs for an account and title beyond `ends_after`; without an account, one that
    /// was opened by nobody in particular.
    pub async fn running(&self, account: Option<&str>, playback_id: &str, ends_after: UnixMillis) -> Result<Option<Arc<Live>>> {
        let place = (account.map(str::to_owned), playback_id.to_owned());
        let known = self.places.read().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some(live) = known.filter(|live| live.is_active(now_ms()) && live.opened().expires_ms > ends_after) {
            return Ok(Some(live));
        }
        let id = rows::running(&self.database, account, playback_id, ends_after.max(now_ms())).await;
        match id.map_err(Error::store("look for a running session"))? {
            Some(id) => self.find(&id).await,
            None => Ok(None),
        }
    }

    /// The sessions of an account that have to end before one more fits under `most`: those that were unused for longest.
    pub async fn surplus(&self, account: &str, most: u32, now: UnixMillis) -> Result<Vec<Arc<Live>>> {
        let ids = rows::surplus(&self.database, account, most, now).await.map_err(Error::store("count sessions"))?;
        let mut surplus = Vec::with_capacity(ids.len());
        for id in ids {
            surplus.extend(self.find(&id).await?);
        }
        Ok(surplus)
    }

    /// Ends a session: in the database first, so that it does not come back. The first end stays.
    pub async fn close(&self, live: &Live, state: State, reason: &str, unmet: Vec<String>) -> Result<bool> {
        let mut tx = self.begin().await?;
        let id = &live.opened().id;
        let sent = live.take_sent();
        let ended =
            rows::close(&mut tx, id, state, reason, &unmet, now_ms(), sent).await.map_err(Error::store("end a session"))?;
        if let Some(ended) = &ended {
            self.tell_end(&mut tx, ended, state).await?;
        }
        tx.commit().await.map_err(Error::store("end a session"))?;
        if ended.is_none() {
            // Another process was faster, and its reason stays.
            self.refresh(id).await?;
        }
        live.set_playing(false);
        Ok(live.close(state, reason, unmet) && ended.is_some())
    }

    /// Ends every session of a title.
    pub async fn close_title(&self, content_id: &str, reason: &str) -> Result<usize> {
        let mut tx = self.begin().await?;
        let ended = rows::close_title(&mut tx, content_id, reason, now_ms());
        let ended = ended.await.map_err(Error::store("end the sessions of a title"))?;
        for one in &ended {
            self.tell_end(&mut tx, one, State::Ended).await?;
        }
        tx.commit().await.map_err(Error::store("end the sessions of a title"))?;
        for live in self.in_memory().into_iter().filter(|live| live.opened().content_id == content_id) {
            live.set_playing(false);
            live.close(State::Ended, reason, Vec::new());
        }
        Ok(ended.len())
    }

    /// Earlier checks of a title's sessions no longer count: here, after a restart, and soon in other processes.
    pub async fn doubt_title(&self, content_id: &str) -> Result<Vec<Arc<Live>>> {
        let mut tx = self.begin().await?;
        // Two doubts within a millisecond are one to the other processes; here each must count.
        let newest = self.in_memory().iter().map(|live| live.doubted_ms()).max().unwrap_or(0);
        let at = now_ms().max(newest + 1);
        rows::doubt_title(&mut tx, content_id, at).await.map_err(Error::store("doubt the sessions of a title"))?;
        tx.commit().await.map_err(Error::store("doubt the sessions of a title"))?;
        let doubted: Vec<_> = self.in_memory().into_iter().filter(|live| live.opened().content_id == content_id).collect();
        for live in &doubted {
            live.doubt(at);
        }
        Ok(doubted)
    }

    /// Sessions that were asked for something since `since`, and still play.
    #[must_use]
    pub fn in_use(&self, since: UnixMillis, now: UnixMillis) -> Vec<Arc<Live>> {
        self.in_memory().into_iter().filter(|live| live.used_ms() >= since && live.is_active(now)).collect()
    }

    /// Sessions, newest first; one more than the page holds.
    pub async fn list(&self, filter: &Filter, page: &Page) -> Result<Vec<Session>> {
        rows::list(&self.database, filter, page).await.map_err(Error::store("list sessions"))
    }

    /// Takes over all that other processes did to the sessions in memory since the last look that succeeded. `forget` hears
    /// of each title whose gate is in doubt, before its sessions do.
    pub async fn follow(&self, forget: impl Fn(&str)) -> Result<()> {
        let began = now_ms();
        let mut next = Some((self.unseen_ms.load(Ordering::Relaxed), String::new()));
        while let Some(after) = next {
            let page = rows::changed_after(&self.database, &after).await;
            let (changes, more) = page.map_err(Error::store("follow sessions"))?;
            changes.into_iter().for_each(|change| self.take_over(change, &forget));
            next = more;
        }
        // Only now: an end that a failed look did not see is seen by no check, so the next look must.
        self.unseen_ms.store(began - OVERLAP_MS, Ordering::Relaxed);
        Ok(())
    }

    fn take_over(&self, change: Change, forget: impl Fn(&str)) {
        let Some(live) = self.copy(&change.id) else { return };
        if change.doubted_ms > live.doubted_ms() {
            forget(&live.opened().content_id);
        }
        live.doubt(change.doubted_ms);
        live.set_playing(change.playing);
        if change.state != State::Active {
            live.close(change.state, &change.reason, change.unmet);
        }
    }

    /// Writes down what has changed in passing: last use, bytes sent, and last positive check.
    pub async fn flush(&self) -> Result<()> {
        let changed: Vec<_> = self.in_memory().into_iter().filter(|live| live.take_dirty()).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for live in changed {
            rows::write_use(&mut tx, &live).await.map_err(Error::store("write down the use of sessions"))?;
        }
        tx.commit().await.map_err(Error::store("write down the use of sessions"))
    }

    /// Drops rows that ended before `ended_before`, and copies that are no longer used.
    pub async fn sweep(&self, ended_before: UnixMillis, now: UnixMillis) -> Result<u64> {
        let idle = |live: &Live| now - live.used_ms() >= IDLE_MS;
        self.places.write().unwrap_or_else(PoisonError::into_inner).retain(|_, live| live.is_active(now) && !idle(live));
        self.write().retain(|_, live| Arc::strong_count(live) > 1 || !idle(live));
        let mut tx = self.begin().await?;
        let gone = rows::delete_ended(&mut tx, ended_before).await.map_err(Error::store("drop old sessions"))?;
        tx.commit().await.map_err(Error::store("drop old sessions"))?;
        Ok(gone)
    }

    /// Tells something that changes no session.
    pub async fn tell(&self, subject: &str, payload: Payload) -> Result<()> {
        let mut tx = self.begin().await?;
        self.add_event(&mut tx, subject, payload).await?;
        tx.commit().await.map_err(Error::store("tell what happened"))
    }

    pub(super) async fn add_event(&self, tx: &mut Transaction, subject: &str, payload: Payload) -> Result<()> {
        self.outbox.add(tx, subject, payload).await.map_err(Error::store("tell what became of a session"))?;
        Ok(())
    }

    pub(super) async fn begin(&self) -> Result<Transaction> {
        self.database.begin().await.map_err(Error::store("begin a change of sessions"))
    }

    /// Brings a copy in line with its row.
    async fn refresh(&self, id: &str) -> Result<()> {
        let Some(live) = self.copy(id) else { return Ok(()) };
        let row = rows::find(&self.database, id).await.map_err(Error::store("read a session"))?;
        if let Some((session, _)) = row.filter(|(session, _)| session.standing.state != State::Active) {
            live.close(session.standing.state, &session.standing.reason, session.standing.unmet);
        }
        Ok(())
    }

    fn keep(&self, session: Session, marks: super::session::Marks) -> Arc<Live> {
        let live = Arc::new(Live::new(session, marks));
        let opened = live.opened();
        let place = (opened.account_id.clone(), opened.playback_id.clone());
        self.write().insert(opened.id.clone(), Arc::clone(&live));
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let newer = places.get(&place).is_none_or(|known| known.opened().created_ms <= opened.created_ms);
        if newer {
            places.insert(place, Arc::clone(&live));
        }
        drop(places);
        live
    }

    pub(super) fn in_memory(&self) -> Vec<Arc<Live>> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn copy(&self, id: &str) -> Option<Arc<Live>> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Arc<Live>>> {
        self.copies.write().unwrap_or_else(PoisonError::into_inner)
    }
}
